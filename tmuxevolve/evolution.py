"""What a worker does in cooperative mode: ask, train once, tell, until the budget is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from signal import Signals
from typing import TypeVar

import msgspec

from tmuxevolve import diagnosis, standby
from tmuxevolve.backoff import Backoff
from tmuxevolve.config import RestartPolicy
from tmuxevolve.errors import ExitStatus, TmuxEvolveError
from tmuxevolve.foreground import Window
from tmuxevolve.interrupts import Interrupts
from tmuxevolve.multiplexer import Ending
from tmuxevolve.study import files, heartbeat, opening
from tmuxevolve.study.opening import AskTell
from tmuxevolve.study.values import Progress, Reservation, Result, Search, training_seed
from tmuxevolve.trainers import NoResultError, Recipe, Trainer, Training

T = TypeVar("T")
_LOG = "train.log"
_RETRY, _LONGEST_RETRY = 1.0, 30.0
_OTHERS_TURN = 0.3


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's part in a study: where it is, how to train, what follows a failure.

    With ``standby`` the next trainer's process loads while the last one trains.
    """

    results: str
    recipe: Recipe
    search: Search
    restart: RestartPolicy
    standby: bool = False


class _OverError(Exception):
    """The worker ends: the text says why, for people; ``status`` is its exit status."""

    def __init__(self, reason: str, status: int = ExitStatus.OK) -> None:
        super().__init__(reason)
        self.status = status


class Evolution:
    """One worker's generations."""

    def __init__(
        self, plan: Plan, trainer: Trainer, window: Window, interrupts: Interrupts
    ) -> None:
        """Put the parts together; nothing is read or written yet."""
        self._plan = plan
        self._trainer = trainer
        self._window = window
        self._interrupts = interrupts
        self._backoff = Backoff(plan.restart)
        self._finished = 0
        self._lasted: float | None = None

    def run(self, identity: heartbeat.Identity) -> Ending:
        """Train generations until the budget is spent, or somebody or something ends it."""
        study: AskTell | None = None
        try:
            study = self._insist("join the study", lambda: self._join(identity))
            while True:
                self._next(study)
        except _OverError as over:
            if study and not over.status:
                self._announce_end(study)
            return Ending(status=over.status, reason=str(over), ended=time.time())
        except (TmuxEvolveError, OSError) as error:
            status = getattr(error, "status", ExitStatus.FAILURE)
            return Ending(status=status, reason=str(error), ended=time.time())
        finally:
            with suppress(OSError):
                if study:
                    study.leave()

    def _join(self, identity: heartbeat.Identity) -> AskTell:
        return opening.join(Path(self._plan.results), self._plan.search, identity)

    def _announce_end(self, study: AskTell) -> None:
        """Tell people that the budget is spent, if it is, and nobody else has."""
        outbox = self._window.outbox
        if not outbox or not outbox.wants("finished"):
            return
        from tmuxevolve.study import announced

        try:
            found = announced.spent(study.files)
        except (OSError, TmuxEvolveError) as error:
            self._window.say(f"cannot see whether all is finished, and tells nobody: {error}")
            return
        if found:
            done = f"{found.finished} of {found.budget} generations are finished"
            fitness = found.best.fitness if found.best else math.nan
            best = f"best fitness {fitness:.5g}, its hyps are in {study.files.best}"
            outbox.post("finished", f"{done}; {best}", fitness)

    def _next(self, study: AskTell) -> None:
        self._end_if_asked()
        reservation = self._insist("reserve a generation", study.ask)
        if reservation is None:
            done = f"{self._finished} generations here" if self._finished != 1 else "1 here"
            raise _OverError(f"nothing is left of the budget ({done})")
        try:
            while not self._attempt(study, reservation):
                reservation = Reservation(
                    reservation.number, reservation.hyp, reservation.failures + 1
                )
        except _OverError:
            self._insist("give the generation back", lambda: study.give_back(reservation))
            raise
        except (TmuxEvolveError, OSError):
            with suppress(OSError):
                study.give_back(reservation)
            raise

    def _attempt(self, study: AskTell, reservation: Reservation) -> bool:
        """Train this generation once; False when it is to be tried again."""
        training = self._training(study, reservation)
        metrics = self._trainer.completed(self._plan.recipe, training)
        started = time.time()
        if metrics is None:
            self._prepare(training)
            metrics, reason = self._train(study, training)
        if metrics is None:
            return self._failed(study, reservation, reason)
        result = Result(metrics, started, time.time())
        self._backoff.succeeded()
        self._finished += 1
        progress = self._insist("write its result", lambda: study.tell(reservation, result))
        with suppress(OSError):
            self._trainer.tidy(training)
        self._window.say(_summary(reservation, progress))
        outbox = self._window.outbox
        if outbox and progress.improved:
            news = _best(reservation, progress, outbox.window)
            outbox.post("best", news, progress.fitness, reservation.number)
        return True

    def _training(self, study: AskTell, reservation: Reservation) -> Training:
        folder = study.files.generation(reservation.number)
        return Training(
            number=reservation.number,
            hyp=reservation.hyp,
            hyp_file=folder / "hyp.yaml",
            folder=folder,
            seed=training_seed(self._plan.search.seed, reservation.number),
        )

    def _prepare(self, training: Training) -> None:
        """Make the generation's folder, without what an earlier attempt has left but its log."""
        import shutil

        def prepare() -> None:
            # Not what a link leads to: all that is in the folder goes.
            if training.folder.is_symlink():
                training.folder.unlink()
            training.folder.mkdir(parents=True, exist_ok=True)
            for path in training.folder.iterdir():
                if path.name == _LOG:
                    path.rename(path.with_name(f"{int(path.stat().st_mtime)}.{_LOG}"))
                elif path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif not path.name.endswith(_LOG):
                    path.unlink()
            training.hyp_file.write_text(files.yaml_lines(training.hyp), encoding="utf-8")

        self._insist(f"write to {training.folder}", prepare)

    def _train(self, study: AskTell, training: Training) -> tuple[tuple[float, ...] | None, str]:
        """Run the trainer; return its metrics, or None and the reason."""
        notice = f"generation {training.number}"
        self._window.say(f"{notice} begins; its files are in {training.folder}")
        trainer = self._window.spawn(self._trainer.argv(self._plan.recipe, training))
        while trainer.poll() is None:
            if self._interrupts.hangup:
                self._window.end()
                continue
            loads_in = self._load_next(study, time.monotonic() - trainer.began)
            self._window.wait(min(heartbeat.INTERVAL, loads_in))
            _beat(study)
        self._lasted = time.monotonic() - trainer.began
        printed = self._window.printed(notice)
        with suppress(OSError):
            (training.folder / _LOG).write_text(printed, encoding="utf-8", errors="replace")
        if trainer.returncode:
            # Whoever ends all of a job or a terminal signals one process after the other.
            self._interrupts.pause(_OTHERS_TURN)
            return None, self._window.cause() or diagnosis.why(trainer.returncode, printed)
        try:
            return self._trainer.metrics(self._plan.recipe, training, printed), ""
        except (NoResultError, OSError) as error:
            return None, str(error)

    def _load_next(self, study: AskTell, elapsed: float) -> float:
        """Let the next trainer load when its time has come; return in how many seconds that is."""
        if not self._plan.standby or self._interrupts.over:
            return math.inf
        seconds = standby.due(elapsed, self._lasted)
        with suppress(OSError, TmuxEvolveError):
            if not seconds and study.left():
                self._window.load(partial(self._trainer.loaded, self._plan.recipe))
        return seconds or math.inf

    def _failed(self, study: AskTell, reservation: Reservation, reason: str) -> bool:
        """Record a failure, wait, and say whether the generation is done with."""
        # A trainer that was ended on purpose has not failed.
        self._end_if_stopped()
        skip = reservation.failures >= self._plan.restart.retries
        self._insist("record a failure", lambda: study.fail(reservation, reason, skip=skip))
        self._backoff.failed()
        self._window.say(f"generation {reservation.number} failed: {reason}")
        if self._backoff.exhausted:
            times = f"{self._backoff.failures} trainings failed here one after another"
            raise _OverError(f"{times}, the last one with: {reason}", ExitStatus.FAILURE)
        self._back_off(study)
        self._end_if_asked()
        return skip

    def _back_off(self, study: AskTell) -> None:
        self._window.end()
        wait = self._backoff.seconds()
        if wait:
            self._window.say(f"goes on in {wait:.0f} s")
        deadline = time.monotonic() + wait
        # The generation is kept meanwhile: other machines are not to take this worker for dead.
        while (left := deadline - time.monotonic()) > 0 and not self._interrupts.over:
            self._interrupts.pause(min(heartbeat.INTERVAL, left))
            _beat(study)

    def _insist(self, what: str, call: Callable[[], T]) -> T:
        """Do something to the results directory, again and again while that fails.

        A disk may be full, or a server away: what is known is kept until it can be written.
        """
        wait = _RETRY
        while True:
            try:
                return call()
            except OSError as error:
                self._window.say(f"cannot {what}: {error}; tries again in {wait:.0f} s")
            self._interrupts.wait(wait)
            wait = min(2 * wait, _LONGEST_RETRY)
            self._end_if_stopped()

    def _end_if_asked(self) -> None:
        self._end_if_stopped()
        if self._interrupts.over:
            raise _OverError(f"drained ({self._finished} generations here)")

    def _end_if_stopped(self) -> None:
        interrupts = self._interrupts
        if interrupts.hangup:
            raise _OverError(f"ended by {Signals(interrupts.hangup).name}", 128 + interrupts.hangup)
        if interrupts.stopped:
            raise _OverError("ended by tmuxevolve stop", ExitStatus.INTERRUPTED)
        if interrupts.typed:
            raise _OverError("ended by Ctrl-C", ExitStatus.INTERRUPTED)


def _beat(study: AskTell) -> None:
    with suppress(OSError):
        study.beat()


def _best(reservation: Reservation, progress: Progress, window: str) -> str:
    done = f"{progress.finished} of {progress.budget} finished"
    return f"generation {reservation.number} in {window}: fitness {progress.fitness:.5g}; {done}"


def _summary(reservation: Reservation, progress: Progress) -> str:
    best = progress.best
    found = f", best so far {best.fitness:.5g}" if best else ""
    odd = f"; {progress.message}" if progress.message else ""
    return (
        f"generation {reservation.number}: fitness {progress.fitness:.5g}{found};"
        f" {progress.finished} of {progress.budget} finished{odd}"
    )
