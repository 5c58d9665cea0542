# user: worker
boot1() {
set +e
exec 2>&1
echo class $XDG_SESSION_CLASS
cat > eat.py <<'PY'
import os, sys, time
n, size = int(sys.argv[1]), int(sys.argv[2])
for i in range(n - 1):
    if os.fork() == 0: break
x = b"x" * (size << 20)
time.sleep(60)
PY
P="-p MemoryMax=100M -p MemorySwapMax=0"
S="systemd-run --user --scope -q"
run() { echo "\$ $*"; local t=$(date +%s%N); "$@"; echo "-> rc $? in $(( ($(date +%s%N)-t)/1000000 )) ms"; }
run timeout 5 $S $P -p OOMPolicy=kill -- python3 eat.py 1 60
for i in 1 2 3; do
  $S --unit=r$i $P -p OOMPolicy=kill -- python3 eat.py 3 60 2>/dev/null; echo rc $?
  for j in 1 2 3; do systemctl --user show -p ActiveState,Result --value r$i.scope | tr '\n' ' '; date +%s.%N; done
done
systemctl --user reset-failed 'r*.scope'; run systemctl --user show -p LoadState r1.scope
run systemctl --user show -p Version
run systemctl --user is-system-running
# a child only
echo "== from a user service"
run systemd-run --user --wait --pipe -q sh -c 'cat /proc/self/cgroup; env | grep -E "XDG|DBUS|SHELL|PATH"; systemd-run --user --scope -q cat /proc/self/cgroup'
echo "== tmux in a scope: its own scope per pane"
tmux new-session -d -s x 'systemd-run --user --scope -q --unit=pane sh -c "tty; cat /proc/self/cgroup; sleep 2" > pane.out 2>&1'; sleep 2; cat pane.out
echo "== in the loop: cost"; t=$(date +%s%N); for i in 1 2 3 4 5 6 7 8 9 10; do $S true; done; echo "10 scopes: $(( ($(date +%s%N)-t)/1000000 )) ms"
t=$(date +%s%N); for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done; echo "10 true: $(( ($(date +%s%N)-t)/1000000 )) ms"
echo "== SIGKILL by hand, and SIGTERM"; $S --unit=k1 sleep 30 & sleep 1; kill -9 $!; wait $!; echo rc $?; systemctl --user show -p LoadState,Result k1.scope
$S --unit=k2 sh -c 'sleep 30 & sleep 30' & sleep 1; run systemctl --user kill -s KILL k2.scope; wait $!; echo rc $?; systemctl --user show -p LoadState,Result k2.scope
}
