# user: worker
# KillUserProcesses=yes ends a tmux server of the login's, linger or not; one in a scope stays.
# shellcheck shell=bash

after1() {
  mkdir -p /etc/systemd/logind.conf.d
  printf '[Login]\nKillUserProcesses=yes\n' > /etc/systemd/logind.conf.d/kill.conf
  sync
}

boot2() {
  tmux -L plain new-session -d 'exec sleep 2001'
  systemd-run --user --scope -q tmux -L scoped new-session -d 'exec sleep 2002'
  pgrep -u worker -f '^sleep 2001'
}

after2() {
  sleep 5
  ! pgrep -u worker -f '^sleep 2001' || return 1
  pgrep -u worker -f '^sleep 2002'
}
