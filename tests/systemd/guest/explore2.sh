# user: cronworker
boot1() {
set +e
echo '@reboot (env; cat /proc/self/cgroup; systemd-run --user --scope -q cat /proc/self/cgroup; export XDG_RUNTIME_DIR=/run/user/$(id -u); ls $XDG_RUNTIME_DIR; systemd-run --user --scope -q -p MemoryMax=1G cat /proc/self/cgroup; loginctl list-sessions --no-pager) > cron.out 2>&1; tmux new-session -d -s incron sleep 1000' | crontab -
systemd-run --user --scope -q --unit=leftover sleep 1000 &
tmux new-session -d -s bylogin 'sleep 1000'
sleep 2
systemctl --user status --no-pager
}
boot2() { set +e; cat cron.out; tmux ls; loginctl user-status --no-pager; cat /proc/$(pgrep -u $UID -f 'sleep 1000' | tail -1)/cgroup; }
