#!/usr/bin/env bash
# Boots a guest with systemd as pid 1 (User Mode Linux: an ordinary process) and runs guest/*.sh
# there. Three boots on one disk: the first ends with a shutdown, the second with the power cut,
# the third with a shutdown. Arguments: the tests to run (cgroup boot ...), all when there are none.
set -euo pipefail
cd "$(dirname "$0")/../.."

limit=${BOOT_TIMEOUT:-480} # seconds for one boot with its tests
cache=$PWD/.cache/systemd
image=$(tests/systemd/build.sh)
host=$cache/host # the guest's /host
disk=$cache/run.cow

rm -rf "$host" "$disk"
mkdir -p "$host/results"
cp -r tests/systemd/guest "$host/guest"
mkdir "$host/code"
cp -r tmuxevolve docs "$host/code/"
find "$host/code" -name __pycache__ -prune -exec rm -r {} +
chmod -R a+rX "$host"
if [ $# = 0 ]; then
  for test in tests/systemd/guest/*.sh; do basename "$test" .sh; done
else
  printf '%s\n' "$@"
fi > "$host/tests"

boot() { # NUMBER, and how it ends: shutdown or power-cut
  local number=$1 end=$2 before=$SECONDS uml
  echo "$number" > "$host/boot"
  setsid linux.uml mem=1G umid="tmuxevolve-$$-$number" "ubd0=$disk,$image" root=/dev/ubda rw \
    "hostfs=$host" con=null con0=null,fd:1 systemd.unified_cgroup_hierarchy=1 ${KERNEL_ARGUMENTS:-} \
    < /dev/null > "$cache/console.$number.log" 2>&1 &
  uml=$!
  disown
  # shellcheck disable=SC2064
  trap "kill -KILL -- -$uml 2>/dev/null || true" EXIT
  while kill -0 "$uml" 2>/dev/null; do
    if [ "$end" = power-cut ] && [ -e "$host/results/$number.done" ]; then
      kill -KILL -- "-$uml"
    elif [ $((SECONDS - before)) -gt "$limit" ] && [ ! -e "$host/results/$number.timeout" ]; then
      kill -KILL -- "-$uml" 2>/dev/null || true
      echo "boot $number: not over after $limit s; the end of $cache/console.$number.log:" >&2
      tail -n 20 "$cache/console.$number.log" >&2
      touch "$host/results/$number.timeout"
    fi
    sleep 0.2
  done
  trap - EXIT
  cat "$host/results/$number" 2>/dev/null || true
  echo "boot $number: $((SECONDS - before)) s, ended by $end"
  [ -e "$host/results/$number.done" ] && [ ! -e "$host/results/$number.timeout" ]
}

boot 1 shutdown && boot 2 power-cut && boot 3 shutdown || {
  echo "FAILED: the guest did not get to its end" >&2
  exit 1
}
if grep -q '^FAILED' "$host"/results/[123]; then
  exit 1
fi
rm -f "$disk"
