#!/usr/bin/env bash
# Makes .cache/systemd/base-HASH.ext4: Debian with systemd as pid 1, cron, tmux and the project's
# dependencies, and the users that the guest tests need. Once; made again when this file or the
# dependencies change. The project itself is not in it: run.sh brings it at every run.
# Needs root, mmdebstrap, mkfs.ext4, and Debian's mirror and PyPI. Prints the image's path.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite=${SUITE:-bookworm}
python=${SUITE_PYTHON:-3.11} # of that suite
mirror=${MIRROR:-http://deb.debian.org/debian}
cache=$PWD/.cache/systemd
dependencies=$(python3 - <<'PYTHON'
import re
text = open("pyproject.toml").read()
print(*re.findall(r'"(.+?)"', re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)[1]))
PYTHON
)
hash=$(echo "$dependencies" | cat - "$0" | sha256sum | cut -c1-12)
image=$cache/$suite-$hash.ext4
if [ -e "$image" ]; then
  echo "$image"
  exit
fi
[ "$(id -u)" = 0 ] || { echo "the guest's disk is made by root: sudo tests/systemd/build.sh" >&2; exit 5; }

mkdir -p "$cache"
rm -f "$cache/$suite"-*.ext4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mmdebstrap --quiet --variant=minbase \
  --include=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,polkitd,python3,tmux,cron,procps \
  "$suite" "$work/root" "$mirror" >&2

# Wheels for the guest's Python, whichever the host's is.
# shellcheck disable=SC2086
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --target "$work/root/opt/dependencies" --python-version "$python" --only-binary=:all: \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  $dependencies >&2

in_root() { chroot "$work/root" "$@"; }
printf '/opt/tmuxevolve\n/opt/dependencies\n' > "$work/root/usr/lib/python3/dist-packages/tmuxevolve.pth"
cat > "$work/root/usr/local/bin/tmuxevolve" <<'GUEST'
#!/usr/bin/python3
from tmuxevolve.__main__ import main

main()
GUEST
chmod 755 "$work/root/usr/local/bin/tmuxevolve"

for user in worker cronworker visitor; do # only worker lingers
  in_root useradd --create-home --shell /bin/bash "$user"
  # Where pipx puts it, and the documentation with it.
  in_root install -d -o "$user" -g "$user" "/home/$user/.local" "/home/$user/.local/bin"
  ln -s /usr/local/bin/tmuxevolve "$work/root/home/$user/.local/bin/tmuxevolve"
done
mkdir -p "$work/root/var/lib/systemd/linger" "$work/root/host"
touch "$work/root/var/lib/systemd/linger/worker"

echo uml > "$work/root/etc/hostname"
echo '127.0.0.1 localhost uml' > "$work/root/etc/hosts"
echo '/dev/ubda / ext4 defaults 0 1' > "$work/root/etc/fstab"
: > "$work/root/etc/machine-id"
cat > "$work/root/etc/systemd/system/guest-tests.service" <<'GUEST'
[Unit]
After=multi-user.target

[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/mount -t hostfs none /host
ExecStart=/bin/bash /host/guest/main

[Install]
WantedBy=multi-user.target
GUEST
in_root systemctl --quiet enable guest-tests.service
in_root systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
  fstrim.timer systemd-timesyncd.service getty@tty1.service

mkfs.ext4 -q -d "$work/root" "$work/image" 1500M >&2
mv "$work/image" "$image"
echo "$image"
