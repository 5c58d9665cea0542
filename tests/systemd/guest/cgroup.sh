# user: worker
# What limits of memory stand on: a scope of the user's own, with memory delegated to its manager.
# shellcheck shell=bash

scope="systemd-run --user --scope -q -p MemoryMax=100M -p MemorySwapMax=0 -p OOMPolicy=kill"

# Three processes of 60 MB each.
eat="import os, time
for _ in range(2):
    if os.fork() == 0:
        break
x = b'x' * 60_000_000
time.sleep(60)"

property() { systemctl --user show --property="$1" --value eater.scope; }

boot1() {
  grep -qw memory "/sys/fs/cgroup/user.slice/user-$UID.slice/user@$UID.service/cgroup.controllers"
  local status=0
  $scope --unit=eater -- python3 -c "$eat" || status=$?
  [ $status = 137 ] || fail "exit status $status"
  [ "$(property Result)" = oom-kill ] || fail "$(property Result)"
  # Its name is taken until it is forgotten.
  ! $scope --unit=eater -- true
  systemctl --user reset-failed eater.scope
  [ "$(property LoadState)" = not-found ]
  $scope --unit=eater -- true

  # A SIGKILL of somebody else's is not taken for that.
  $scope --unit=eater -- sh -c 'kill -KILL $$' || status=$?
  [ $status = 137 ]
  [ "$(property Result)" = success ]
}
