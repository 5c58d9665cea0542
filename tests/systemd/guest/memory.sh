# user: worker
# `memory:` as tmuxevolve keeps it here: a scope per trainer, ended as a whole, with the reason.
# shellcheck shell=bash

greedy="import os, time
for _ in range(2):
    if os.fork() == 0:
        break
x = b'x' * 60_000_000
time.sleep(600)"

write() { # LIMIT
  mkdir -p ~/memory
  python3 - "$1" "$greedy" > ~/memory/sessions.yaml <<'PYTHON'
import json
import sys

limit, code = sys.argv[1:]
session = {
    "command": ["python3", "-c", code],
    "trainer": "command",
    "results": "results",
    "evolve": {"mode": "native"},
    "gpus": {"use": "none"},
    "cpu_slots": 1,
    "memory": limit,
    "restart": {"on": "never"},
}
print(json.dumps({"sessions": {"memory": session}}))
PYTHON
}

window() { # FIELD of the only window
  tmuxevolve status memory --json | python3 -c "
import json, sys
print(json.load(sys.stdin)[0]['windows'][0]['$1'])"
}

failed() { [ "$(window state)" = failed ]; }
scope_runs() { systemctl --user list-units --plain --no-legend 'tmuxevolve-*.scope' | grep .; }
no_scope_runs() { ! scope_runs; }

boot1() {
  write 100M
  tmuxevolve start -f ~/memory/sessions.yaml | tee ~/memory/said
  grep -q "memory of each worker: 100 MiB (systemd)$" ~/memory/said || fail "not by systemd"
  until_true 60 failed
  [ "$(window exit_status)" = 137 ] || fail "exit status $(window exit_status)"
  window reason | grep -qx "out of memory: it needed more than its limit of 100 MiB (systemd)" ||
    fail "$(window reason)"
  [ -z "$(systemctl --user list-units --all --plain --no-legend 'tmuxevolve-*')" ] ||
    fail "units are left: $(systemctl --user list-units --all 'tmuxevolve-*')"

  # Within its limit it runs, in a scope; stop ends it, and the scope with it.
  write 400M
  tmuxevolve start -f ~/memory/sessions.yaml
  until_true 30 scope_runs
  tmuxevolve stop -s memory
  until_true 30 no_scope_runs
}
