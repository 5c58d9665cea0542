"""Orders and claims over the private socket."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tmuxevolve import claims, counter, handover
from tmuxevolve.config import GpuPolicy, RestartPolicy
from tmuxevolve.counter import Counter, VisitError
from tmuxevolve.handover import Desk, Parcel
from tmuxevolve.multiplexer import State
from tmuxevolve.order import Order, Report, read_order

if TYPE_CHECKING:
    from tmuxevolve.counter import Direct


def order(worker: str, **changes: object) -> Order:
    values = {
        "worker": worker,
        "window": "gpu0",
        "argv": ("python", "a b"),
        "workdir": "/",
        "env": {"A": "ünï\udc80\n", "BIG": "x" * 300_000},
        "uuid": "GPU-x",
        "gpus": GpuPolicy(use=(0, "1:0"), per_gpu=2),
        "stop_signal": "SIGINT",
        "stop_grace": 1.5,
        "delay": 0.25,
        "restart": RestartPolicy(),
    }
    return Order(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as opened:
        yield opened


def serve(desk: Desk, parcels: dict[str, Parcel], alive: object = None) -> dict[str, Report]:
    """Serve in the background; the result is filled when the thread is joined."""
    reports: dict[str, Report] = {}
    look = alive if callable(alive) else lambda: set(parcels)
    thread = threading.Thread(target=lambda: reports.update(desk.serve(parcels, look)))
    thread.start()
    reports["thread"] = thread  # type: ignore[assignment]
    return reports


def finish(reports: dict[str, Report]) -> dict[str, Report]:
    reports.pop("thread").join(20)  # type: ignore[attr-defined]
    return reports


def test_order_and_claim_arrive_whole(desk: Desk) -> None:
    uuid = f"GPU-{secrets.token_hex(8)}"
    sent = order("w", uuid=uuid)
    at_once: Direct = {
        "argv": sent.argv,
        "folder": sent.workdir,
        "env": sent.env,
        "until": 1.5,
    }
    reports = serve(desk, {"w": Parcel(sent, claims.take(uuid), at_once)})
    visit, brief, claim = Counter.visit(desk.address, "w")
    assert read_order(brief["order"]) == sent
    assert brief["direct"] == at_once
    visit.running(7)
    assert finish(reports) == {"w": Report(state=State.RUNNING, pid=7)}
    # The giver has let go: the worker alone holds the claim now.
    assert claim is not None
    assert uuid in claims.held()
    assert not os.get_inheritable(claim)
    os.close(claim)
    assert uuid not in claims.held()


def test_sixty_four_at_once(desk: Desk) -> None:
    parcels = {f"w{i}": Parcel(order(f"w{i}", env={}, uuid=None), None) for i in range(64)}
    reports = serve(desk, parcels)

    def work(name: str) -> None:
        visit, brief, _ = Counter.visit(desk.address, name)
        visit.running(int(read_order(brief["order"]).worker[1:]))

    threads = [threading.Thread(target=work, args=(name,)) for name in parcels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {n: r.pid for n, r in finish(reports).items()} == {f"w{i}": i for i in range(64)}


def test_a_worker_that_dies_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_LOOK", 0.05)
    parcels = {name: Parcel(order(name, env={}, uuid=None), None) for name in ("never", "silent")}
    alive = {"never", "silent"}
    reports = serve(desk, parcels, lambda: alive)
    visit, _, _ = Counter.visit(desk.address, "silent")
    visit._visit.close()
    alive.clear()
    assert finish(reports) == {
        "silent": Report(state=State.FAILED, reason="the worker ended without a word")
    }


def test_nobody_there() -> None:
    with pytest.raises(VisitError, match="was interrupted; run it again"):
        Counter.visit("tmuxevolve.start/nobody", "w")


def test_other_users_get_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends look at the other's uid, as the kernel gives it."""
    parcels = {"w": Parcel(order("w", env={}, uuid=None), None)}
    monkeypatch.setattr(handover, "_LOOK", 0.2)
    real = counter.peer_uid
    stranger = os.getuid() + 1
    monkeypatch.setattr(counter, "peer_uid", lambda _: stranger)
    reports = serve(desk, parcels, lambda: ())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.connect(f"\0{desk.address}")
        assert real(visitor) == os.getuid()
        with suppress(ConnectionError):
            visitor.sendall(b"w")
            assert visitor.recv(10) == b""
    assert finish(reports) == {}
    with pytest.raises(VisitError, match="another user answers"):
        Counter.visit(desk.address, "w")


@pytest.mark.parametrize("noise", [b"", b"unknown", b"\xff" * 1000, struct.pack("!Q", 1 << 60)])
def test_noise_on_the_socket_disturbs_nobody(desk: Desk, noise: bytes) -> None:
    reports = serve(desk, {"w": Parcel(order("w", env={}, uuid=None), None)})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.connect(f"\0{desk.address}")
        visitor.sendall(noise)
    visit, _, _ = Counter.visit(desk.address, "w")
    visit.running(1)
    # Only the first report counts.
    visit.running(2)
    assert finish(reports) == {"w": Report(state=State.RUNNING, pid=1)}
