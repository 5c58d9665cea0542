"""Resolve a session's paths, variables and command for this machine and this caller."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tmuxevolve import commandline, placeholders
from tmuxevolve.config import NOTICE, Evolve, GpuPolicy, Notify, Session, SessionEntry, SlurmJobs
from tmuxevolve.yamlfile import Document, KeyPath

PYTHON_VARIABLE = "TMUXEVOLVE_PYTHON"
_ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_SMALLEST = 16 << 20
_OURS_OF_SBATCH = frozenset(
    {
        *("-J", "--job-name", "--comment", "-D", "--chdir", "-o", "--output", "-e", "--error"),
        *("--open-mode", "--signal", "--export", "--requeue", "--no-requeue", "-N", "--nodes"),
        *("-n", "--ntasks", "--wrap", "--parsable", "-a", "--array"),
    }
)
_OURS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


def session(
    document: Document, name: str, entry: SessionEntry, environ: Mapping[str, str]
) -> Session:
    """Return the session as it is to run. Raises UsageError, one line with file, line and key."""
    return _Resolver(document, name, entry, environ).resolve()


class _Resolver(msgspec.Struct, frozen=True):
    document: Document
    name: str
    entry: SessionEntry
    environ: Mapping[str, str]

    def resolve(self) -> Session:
        entry = self.entry
        env = {key: self._env(key, value) for key, value in entry.env.items()}
        return Session(
            name=self.name,
            source=self.document.path,
            workdir=self._workdir(),
            command=self._command(self._keys("command"), self.entry.command, env),
            concealed=self._concealed(env),
            trainer=entry.trainer,
            results=self._results(),
            evolve=self._evolve(env),
            gpus=entry.gpus,
            cpu_slots=entry.cpu_slots,
            env=env,
            stagger=entry.stagger,
            memory=self._memory(),
            min_free_memory=entry.min_free_memory,
            restart=entry.restart,
            stop=entry.stop,
            schedule=self._schedule(),
            overview=entry.overview,
            notify=entry.notify and self._notify(entry.notify, env),
            multiplexer=entry.multiplexer,
            slurm=self._slurm(),
        )

    def _env(self, name: str, value: str) -> str:
        keys = self._keys("env", name)
        if not re.fullmatch(_ENV_NAME, name):
            raise self.document.error(keys, f"{name!r} cannot be a variable's name")
        if name in _OURS:
            raise self.document.error(keys, "tmuxevolve sets it for each window: see gpus.use")
        return self._expand(keys, value, self.environ)

    def _memory(self) -> int | None:
        memory = self.entry.memory
        if memory is not None and memory < _SMALLEST:
            raise self.document.error(
                self._keys("memory"), f"{memory} bytes: no trainer fits into less than 16 MiB"
            )
        return memory

    def _schedule(self) -> str | None:
        text, keys = self.entry.schedule, self._keys("schedule")
        if text is None:
            return None
        from tmuxevolve import schedule

        try:
            schedule.parse(text)
        except ValueError as error:
            raise self.document.error(keys, str(error)) from None
        if self.entry.evolve.mode == "native":
            what = "a trainer's own evolution cannot pause: evolve.mode: cooperative can"
            raise self.document.error(keys, what)
        return text

    def _slurm(self) -> SlurmJobs | None:
        """Return the jobs to submit; refuse what would have no meaning beside them."""
        entry = self.entry
        if entry.launcher == "local":
            return None
        if entry.slurm is None:
            what = "say how many jobs there are to be: slurm: {workers: 4}"
            raise self.document.error(self._keys("launcher"), what)
        if entry.evolve.mode == "native":
            what = "launcher: slurm shares one study: evolve.mode: cooperative"
            raise self.document.error(self._keys("evolve", "mode"), what)
        chosen = {"gpus": GpuPolicy(), "cpu_slots": 0, "schedule": None, "min_free_memory": None}
        for key, nothing in chosen.items():
            if getattr(entry, key) != nothing:
                what = (
                    "with launcher: slurm GPUs, memory and times are Slurm's to choose: remove it"
                )
                raise self.document.error(self._keys(key), what)
        for number, word in enumerate(entry.slurm.extra):
            option = word.partition("=")[0] if word.startswith("--") else word[:2]
            if option in _OURS_OF_SBATCH:
                what = f"{option}: tmuxevolve sets it for each job"
                raise self.document.error(self._keys("slurm", "extra", str(number)), what)
        return entry.slurm

    def _workdir(self) -> Path:
        path = self._path("workdir", self.entry.workdir)
        if not self._is_directory("workdir", path):
            raise self.document.error(self._keys("workdir"), f"{path}: no such directory")
        return path

    def _results(self) -> Path:
        path = self._path("results", self.entry.results)
        self._is_directory("results", path)
        return path

    def _is_directory(self, key: str, path: Path) -> bool:
        """Say whether the path is there; what is there must be a directory."""
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self.document.error(self._keys(key), f"{path}: {error.strerror}") from None
        if not stat.S_ISDIR(mode):
            raise self.document.error(self._keys(key), f"{path}: not a directory")
        return True

    def _path(self, key: str, text: str) -> Path:
        keys = self._keys(key)
        if not text:
            raise self.document.error(keys, "an empty path")
        expanded = self._expand(keys, text, self.environ)
        return Path(os.path.normpath(self.document.path.parent.absolute() / expanded))

    def _command(
        self, keys: KeyPath, command: str | tuple[str, ...], env: Mapping[str, str]
    ) -> tuple[str, ...]:
        if isinstance(command, str):
            try:
                words = commandline.split(command)
            except ValueError as error:
                raise self.document.error(keys, str(error)) from None
            known = self._known(env)
            command = tuple(self._expand(keys, word, known) for word in words)
        if not command or not command[0]:
            raise self.document.error(keys, "there is no command in it")
        if any("\0" in word for word in command):
            raise self.document.error(keys, "a NUL byte cannot be in a command")
        return command

    def _evolve(self, env: Mapping[str, str]) -> Evolve:
        evolve, keys = self.entry.evolve, self._keys("evolve", "storage")
        if evolve.storage is None:
            return evolve
        if evolve.mode == "native":
            raise self.document.error(keys, "it is for evolve.mode: cooperative")
        if "://" not in evolve.storage:
            raise self.document.error(keys, "expected a URL, such as postgresql://host/name")
        return msgspec.structs.replace(evolve, storage=self._url(keys, evolve.storage, env))

    def _notify(self, notify: Notify, env: Mapping[str, str]) -> Notify:
        keys = self._keys("notify")
        if notify.command is None and not notify.urls:
            raise self.document.error(keys, "say who is told: a command, urls, or both")
        words = None
        if notify.command is not None:
            words = self._command((*keys, "command"), notify.command, env)
            for number, word in enumerate(words):
                listed = () if isinstance(notify.command, str) else (str(number),)
                self._check_placeholders((*keys, "command", *listed), word)
        urls = tuple(
            self._url(self._keys("notify", "urls", str(number)), url, env)
            for number, url in enumerate(notify.urls)
        )
        return msgspec.structs.replace(notify, command=words, urls=urls)

    def _check_placeholders(self, keys: KeyPath, word: str) -> None:
        for name in placeholders.used(word, placeholders.WORD):
            if name not in NOTICE:
                known = " ".join(f"{{{known}}}" for known in NOTICE)
                what = f"{{{name}}} is none of {known}; {{{{{name}}}}} is the text itself"
                raise self.document.error(keys, what)

    def _url(self, keys: KeyPath, url: str, env: Mapping[str, str]) -> str:
        try:
            return commandline.expand(url, self._known(env))
        except ValueError:
            # Without the text: it may be a part of a password.
            what = "a $NAME in it is not set; $$ is a plain $"
            raise self.document.error(keys, what) from None

    def _concealed(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the words that hold values of ``env``, with the variables' names instead."""
        if not isinstance(self.entry.command, str):
            return {}
        keys, known = self._keys("command"), self._known(env)
        named = {**known, **{name: f"${name}" for name in env}}
        words = commandline.split(self.entry.command)
        pairs = {self._expand(keys, w, known): self._expand(keys, w, named) for w in words}
        return {word: shown for word, shown in pairs.items() if word != shown}

    def _known(self, env: Mapping[str, str]) -> dict[str, str]:
        return {PYTHON_VARIABLE: sys.executable, **self.environ, **env}

    def _expand(self, keys: KeyPath, text: str, variables: Mapping[str, str]) -> str:
        if "\0" in text:
            raise self.document.error(keys, "a NUL byte cannot be in it")
        try:
            return commandline.expand(text, variables)
        except ValueError as error:
            raise self.document.error(keys, str(error)) from None

    def _keys(self, *keys: str) -> KeyPath:
        return ("sessions", self.name, *keys)
