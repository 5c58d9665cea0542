#!/bin/bash
# The guest's first process. Its root are the host's files: what is written below is on tmpfs, but
# for what is in $place.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec > "$place/log" 2>&1
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/nfs
mount -t tmpfs tmpfs /mnt
mkdir -p /var/lib/nfs/{v4recovery,rpc_pipefs,sm,nfsdcltrack} /mnt/{export,a,b}
touch /var/lib/nfs/{etab,rmtab}
ip link set lo up
for module in nfsd nfs nfsv4 loop veth; do modprobe -d "$place/root" "$module"; done
mount -t nfsd nfsd /proc/fs/nfsd
truncate -s 200M /mnt/disk
mkfs.ext4 -q /mnt/disk
mount -o loop /mnt/disk /mnt/export
exportfs -i -o rw,no_root_squash,fsid=0,insecure '*:/mnt/export'
rpc.mountd --no-nfs-version 3 2>/dev/null
echo 10 > /proc/fs/nfsd/nfsv4leasetime
echo 10 > /proc/fs/nfsd/nfsv4gracetime
rpc.nfsd -N 3 4
# Two clients: an NFS client is a network namespace, and names itself by its host's name.
for side in a b; do
  [ $side = a ] && subnet=10.9.1 || subnet=10.9.2
  mkdir -p /run/netns
  ip netns add $side
  ip link add to-$side type veth peer name eth0 netns $side
  ip addr add $subnet.1/24 dev to-$side
  ip link set to-$side up
  ip -n $side addr add $subnet.2/24 dev eth0
  ip -n $side link set eth0 up
  nsenter --net=/run/netns/$side unshare --uts sh -c "
    hostname host-$side
    mount.nfs4 -o vers=4.2,${MOUNT:-hard},timeo=20 $subnet.1:/ /mnt/$side"
done
grep nfs4 /proc/mounts
cd /run && "$code/.venv/bin/python" "$code/tests/nfs/${STUDY:-study.py}" /mnt/a /mnt/b && touch "$place/passed"
sync
echo o > /proc/sysrq-trigger
sleep 60
