# user: cronworker
# The line of crontab that docs/reboot.md prints, without linger, over a shutdown and a power cut.
# shellcheck shell=bash

boot1() {
  sessions_yaml
  documented "crontab -e" | crontab -
  tmuxevolve start yolov5
  until_true 90 has_rows 3
  until_true 30 nothing_lost
  remember
}

boot2() {
  continued || { cat ~/tmuxevolve.log; return 1; }
  remember
}

boot3() {
  continued
  # cron runs it outside of every session: nothing of it ends with a logout.
  tmux display-message -p '#{pid}' | xargs -I{} cat /proc/{}/cgroup | grep '/cron.service$'
  cat ~/tmuxevolve.log
}
