"""The results directory: whether it can be written, where it lies, whether its lock works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from tmuxevolve.checkup import Check, Scene, failed, passed, warned
from tmuxevolve.units import format_size

# Other machines write there too.
_NETWORK = (
    r"nfs4?|cifs|smb3?|smbfs|ceph|fuse\.ceph.*|glusterfs|fuse\.glusterfs|lustre|beegfs|gpfs|afs"
    r"|9p|ocfs2|gfs2|orangefs|pvfs2|fuse\.juicefs|fuse\.moosefs|fuse\.mfs.*"
)
# There a lock is this machine's alone.
_LOCAL_LOCKS = r"fuse\.(sshfs|s3fs|rclone|gcsfuse|goofys|davfs.*|curlftpfs)"
_LOCAL_OPTIONS = ("nolock", "local_lock=all", "local_lock=posix", "nobrl", "localflock")
_TRIAL = ("-m", "tmuxevolve.checkup.lock_trial")
_TRIAL_SECONDS = 30.0
_LEAST = 50 << 20
# Checkpoints, while a training runs.
_OF_TORCH = 1 << 30


class Mount(msgspec.Struct, frozen=True):
    """A mounted file system: where, of which kind, of what, and how."""

    point: str
    kind: str
    source: str
    options: tuple[str, ...]


def results(scene: Scene) -> Check:
    """Try whether the results directory, or where it will be made, can be written."""
    folder = existing(scene.session.results)
    what = "" if folder == scene.session.results else f", will be made in {folder}"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmuxevolve-check-") as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        mend = "another directory, or the rights and the space to write there"
        return failed("results", f"{folder}: {error.strerror}", mend)
    return passed("results", f"{scene.session.results}{what}")


def lock(scene: Scene) -> Check | None:
    """Say on which file system the results lie, and try its lock with two processes.

    None where no file can be made: that is the results' own finding.
    """
    name, folder = "lock", existing(scene.session.results)
    mount = mount_of(folder)
    where = f"{mount.kind} ({mount.source} on {mount.point})" if mount else "unknown file system"
    mend = "another directory: on a local disk, or on NFS with its lock"
    try:
        problem = trial(folder)
    except OSError:
        return None
    if problem:
        return failed(name, f"{where}: {problem}", mend)
    if mount and is_local_only(mount):
        found = f"{where}: its locks do not reach other machines"
        return warned(name, found, f"nothing, if one machine alone runs this session; {mend}")
    others = ", for all machines" if mount and re.fullmatch(_NETWORK, mount.kind) else ""
    return passed(name, f"works between two processes{others}: {where}")


def disk(scene: Scene) -> Check:
    """Compare the free space with what the workers write while they train."""
    folder = existing(scene.session.results)
    free = shutil.disk_usage(folder).free
    found = f"{format_size(free)} free on {folder}"
    mend = "delete what is not needed, or another results directory"
    if free < _LEAST or (not os.statvfs(folder).f_favail and os.statvfs(folder).f_files):
        return failed("disk", found if free < _LEAST else f"no free inode on {folder}", mend)
    needs_torch = scene.inspection is not None and scene.inspection.needs_torch
    if needs_torch and free < _OF_TORCH * scene.workers:
        each = format_size(_OF_TORCH)
        return warned("disk", f"{found}; {each} for each of {scene.workers} is better", mend)
    return passed("disk", found)


def existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next((p for p in (path, *path.parents) if os.path.isdir(p)), Path("/"))  # noqa: PTH112


def mount_of(path: Path) -> Mount | None:
    """Return the file system that a path is on; None when the kernel does not tell."""
    import psutil

    real = os.path.realpath(path)
    around = [
        part
        for part in psutil.disk_partitions(all=True)
        if real == part.mountpoint or real.startswith(f"{part.mountpoint.rstrip('/')}/")
    ]
    # Of two on the same point the later one is seen.
    found = max(reversed(around), key=lambda part: len(part.mountpoint), default=None)
    if found is None:
        return None
    return Mount(found.mountpoint, found.fstype, found.device, (*found.opts.split(","),))


def is_local_only(mount: Mount) -> bool:
    """Say whether other machines write there, and do not see this machine's locks."""
    network = re.fullmatch(_NETWORK, mount.kind) is not None
    without = any(option in _LOCAL_OPTIONS for option in mount.options)
    return re.fullmatch(_LOCAL_LOCKS, mount.kind) is not None or (network and without)


def trial(folder: Path, timeout: float = _TRIAL_SECONDS) -> str | None:
    """Return what is wrong with locks in a folder; None when two processes respect them.

    Raises OSError when no file can be made there.
    """
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".tmuxevolve-check-")
    os.close(descriptor)
    argv = [sys.executable, *_TRIAL, name]
    try:
        # Not in the caller's folder, whose modules -m would import.
        done = subprocess.run(
            argv,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no lock within {timeout:g} s"
    finally:
        with suppress(OSError):
            Path(name).unlink()
    said = done.stdout or done.stderr.strip() or "the trial failed"
    return said.splitlines()[-1] if done.returncode else None
