# user: worker
# The unit that docs/reboot.md prints, over a shutdown and a power cut.
# shellcheck shell=bash disable=SC1090

unit=~/.config/systemd/user/tmuxevolve.service

boot1() {
  sessions_yaml
  mkdir -p ~/.config/systemd/user
  documented "~/.config/systemd/user/tmuxevolve.service" > "$unit"
  sudo() { "$@"; } # polkit lets a logged-in user do it
  . <(documented "once")
  [ "$(loginctl show-user --property=Linger --value "$USER")" = yes ]
  systemctl --user is-active tmuxevolve
  until_true 90 has_rows 3
  until_true 30 nothing_lost
  remember
}

boot2() {
  grep '"type":"back"' ~/results/study/journal.jsonl || fail "the shutdown did not stop the workers first"
  continued
  systemctl --user is-active tmuxevolve
  remember
}

boot3() {
  continued
  # Windows of the user's own in the same tmux server outlive the unit.
  tmux new-session -d -s mine 'sleep 1000'
  systemctl --user stop tmuxevolve
  tmux has-session -t mine
  [ "$(tmuxevolve status)" = "no session is running" ]
  [ "$(systemctl --user show --property=Result --value tmuxevolve)" = success ]
  systemctl --user start tmuxevolve
  until_true 60 nothing_lost
  # Ended by hand before: stopping is no failure.
  tmuxevolve stop --session yolov5
  systemctl --user stop tmuxevolve
  [ "$(systemctl --user is-failed tmuxevolve)" = inactive ]

  # A start that fails is tried again, until it does not.
  mkdir -p "$unit.d"
  printf '[Service]\nRestartSec=3\n' > "$unit.d/soon.conf"
  systemctl --user daemon-reload
  mv ~/sessions.yaml ~/away.yaml
  ! systemctl --user start tmuxevolve || fail "it starts without a sessions.yaml"
  mv ~/away.yaml ~/sessions.yaml
  until_true 30 systemctl --user is-active tmuxevolve
  tmuxevolve status yolov5
}
