# user: visitor
# Without linger: the user manager ends with the last session, and takes its scopes with it.
# shellcheck shell=bash

boot1() {
  [ "$(loginctl show-user --property=Linger --value "$USER")" = no ]
  systemd-run --user --scope -q --unit=leftover sleep 1000 > /dev/null 2>&1 &
  until_true 10 systemctl --user is-active leftover.scope
}

gone() { ! pgrep -u visitor > /dev/null; }

after1() {
  pgrep -u visitor sleep
  until_true 30 gone
  echo "gone after $SECONDS s"
}
