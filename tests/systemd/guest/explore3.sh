# user: worker
boot1() {
set +e
sleep 20
ps -eo user,pid,cmd | grep -E 'cronw|1001' | grep -v grep
cat /proc/$(pgrep -u cronworker -f 'sleep 1000' | tail -1)/cgroup
loginctl list-users --no-pager; loginctl list-sessions --no-pager
}
