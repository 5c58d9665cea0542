"""What ``start`` does so that the windows' output is kept: FIFOs, and who reads them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from tmuxevolve.multiplexer import Multiplexer, Opening, Window
from tmuxevolve.recording import files
from tmuxevolve.session.plan import Place
from tmuxevolve.slots import window_name

_ENTRY = Path(__file__).parent.with_name("recorder_entry.py")
# The local time is the user's; the shell finds `nice`. Nothing else concerns the recorder.
_PASSED = ("PATH", "TZ")
# Its parent is gone at once: the recorder is nobody's child, and stays when a watch window ends.
# Trainers come first while they load; what waits in a FIFO is not lost.
_DETACHED = 'nice -n 10 "$@" &'


class Recording(msgspec.Struct, frozen=True):
    """The FIFO of each window, by the window's name; none where nothing can be kept."""

    fifos: Mapping[str, Path] = {}
    notes: tuple[str, ...] = ()

    def joined(self, openings: Iterable[Opening]) -> list[Opening]:
        """Return the windows to open, with their FIFOs."""
        return [structs.replace(o, output=self.fifos.get(o.name)) for o in openings]

    def forget(self, windows: Iterable[str]) -> None:
        """Remove the FIFOs of refused windows: the recorder does not wait for them any longer."""
        for name in windows:
            if name in self.fifos:
                self.fifos[name].unlink(missing_ok=True)


def begin(
    results: Path,
    places: Sequence[Place],
    running: Sequence[Window],
    environ: Mapping[str, str],
    mux: Multiplexer,
) -> Recording:
    """Start a recorder for what is about to be opened, and for what runs and has lost its own.

    Whatever prevents it is a note: the trainings go on.
    """
    lost = {window_name(w.facts.slot): w for w in running if not w.recorded}
    recorded = of_windows(results, [*(place.slot.name for place in places), *lost], environ)
    if recorded.fifos:
        mux.record([(window, recorded.fifos[name]) for name, window in lost.items()])
    return recorded


def of_windows(results: Path, names: Sequence[str], environ: Mapping[str, str]) -> Recording:
    """Start a recorder for the windows of these names."""
    if not names:
        return Recording()
    where = files.folder(os.uname().nodename)
    try:
        for name in names:
            for kind in (files.LOG, files.RAW):
                files.Kept(f"{results}/{where}", name, kind).append(b"")
        fifos = _record(results, where, names, environ)
    except OSError as error:
        what = error.strerror or str(error)
        note = f"{error.filename or results}: {what}: the windows' output is not kept"
        return Recording(notes=(note,))
    return Recording(fifos)


def _record(
    results: Path, where: str, windows: Sequence[str], environ: Mapping[str, str]
) -> dict[str, Path]:
    # In a folder that nobody else can enter; not in the results, which may be on NFS.
    place = Path(environ.get("TMPDIR") or "/tmp") / f"tmuxevolve-{os.urandom(8).hex()}"  # noqa: S108
    place = place.absolute()
    place.mkdir(mode=0o700)
    fifos = {name: place / name for name in windows}
    ends: dict[str, int] = {}
    try:
        for name, path in fifos.items():
            os.mkfifo(path, 0o600)
            # Open for reading before anybody writes: who opens the other end need not wait.
            ends[name] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        _spawn((str(results), where, str(place)), ends, environ)
    except OSError:
        for path in fifos.values():
            path.unlink(missing_ok=True)
        place.rmdir()
        raise
    finally:
        for end in ends.values():
            os.close(end)
    return fifos


def _spawn(places: Sequence[str], ends: Mapping[str, int], environ: Mapping[str, str]) -> None:
    """Start the recorder, away from this terminal and from this process's tree."""
    for end in ends.values():
        os.set_inheritable(end, True)
    streams = (f"{end}:{name}" for name, end in ends.items())
    recorder = (sys.executable, "-I", "-S", str(_ENTRY), *places, *streams)
    shell = os.posix_spawn(
        "/bin/sh",
        ("sh", "-c", _DETACHED, "sh", *recorder),
        {name: environ[name] for name in _PASSED if name in environ},
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ),
        setsid=True,
        setsigmask=(),
    )
    os.waitpid(shell, 0)
