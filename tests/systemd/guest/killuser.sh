# user: worker
boot1() { true; }
after1() { mkdir -p /etc/systemd/logind.conf.d; printf '[Login]\nKillUserProcesses=yes\n' > /etc/systemd/logind.conf.d/k.conf; sync; }
boot2() { 
tmux -L plain new-session -d 'exec sleep 2001'
systemd-run --user --scope -q tmux -L scoped new-session -d 'exec sleep 2002'
pgrep -a sleep
}
after2() { sleep 5; pgrep -a -u worker sleep; false; }
