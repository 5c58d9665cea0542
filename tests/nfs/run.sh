#!/usr/bin/env bash
# NFS proper: boots a kernel (User Mode Linux, on this machine's own files) that is an NFS server and
# has two mounts of it, and runs study.py there. Needs root, user-mode-linux and nfs-kernel-server.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=$(mktemp -d /tmp/tmuxevolve-nfs.XXXXXX)
trap 'rm -rf "$place"' EXIT
mkdir -p "$place/root/lib"
ln -s /usr/lib/uml/modules "$place/root/lib/modules"
timeout -k 5 "${BOOT_TIMEOUT:-300}" linux.uml mem=512M rootfstype=hostfs rootflags=/ rw \
  root=/dev/root init="$PWD/tests/nfs/guest.sh" "place=$place" "code=$PWD" "MOUNT=${MOUNT:-hard}" \
  "STUDY=${STUDY:-study.py}" \
  con=null con0=null,fd:1 < /dev/null > "$place/console" 2>&1 || true
cat "$place/log" || tail -n 20 "$place/console"
[ -e "$place/passed" ]
