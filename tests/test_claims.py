"""Claims on real kernel sockets, between real processes."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter

import pytest
from support import poll

from tmuxevolve import claims

HOLD = """
import sys, time
from tmuxevolve import claims
try:
    claim = claims.take(sys.argv[1], int(sys.argv[2]))
except claims.ClaimedError:
    print("refused", flush=True)
else:
    print("held", flush=True)
    time.sleep(1000)
"""


def uuid() -> str:
    return f"GPU-{secrets.token_hex(8)}"


def hold(name: str, limit: int = 1) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", HOLD, name, str(limit)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_second_claim_is_refused_and_says_who_holds_it() -> None:
    name = uuid()
    first = claims.take(name)
    with pytest.raises(claims.ClaimedError) as refused:
        claims.take(name)
    assert refused.value.holders == (claims.Holder(name, 1, os.getuid()),)
    first.close()
    claims.take(name).close()


def test_kill_9_gives_the_claim_back() -> None:
    name = uuid()
    process = hold(name)
    assert answer(process) == "held"
    assert name in claims.held()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert name not in claims.held()
    claims.take(name).close()


def test_limit_is_the_lowest_of_all_holders() -> None:
    name = uuid()
    shared = [claims.take(name, 2), claims.take(name, 3)]
    with pytest.raises(claims.ClaimedError):
        claims.take(name, 3)
    shared.pop().close()
    with pytest.raises(claims.ClaimedError):
        claims.take(name, 1)
    for claim in shared:
        claim.close()


def test_old_mig_names_with_slashes() -> None:
    name = f"MIG-{uuid()}/1/0"
    claim = claims.take(name)
    assert claims.held()[name] == (claims.Holder(name, 1, os.getuid()),)
    claim.close()


def test_claim_travels_with_its_descriptor() -> None:
    name = uuid()
    claim = claims.take(name)
    adopted = claims.Claim.adopt(os.dup(claim.fileno()))
    claim.close()
    assert name in claims.held()
    adopted.close()
    assert name not in claims.held()


@pytest.mark.parametrize("limit", [1, 3])
def test_race_of_processes_has_exactly_as_many_winners_as_allowed(limit: int) -> None:
    name = uuid()
    racers = [hold(name, limit) for _ in range(12)]
    try:
        assert Counter(map(answer, racers)) == {"held": limit, "refused": 12 - limit}
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def test_a_turn_that_is_never_given_up_ends_in_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    name = uuid()
    monkeypatch.setattr(claims, "_TURN_TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as turn:
        turn.bind(f"\0tmuxevolve.turn/{name}".encode())
        with pytest.raises(claims.ClaimedError):
            claims.take(name)


def test_waits_for_its_turn() -> None:
    name = uuid()
    turn = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    turn.bind(f"\0tmuxevolve.turn/{name}".encode())
    taken: list[claims.Claim] = []
    waiter = threading.Thread(target=lambda: taken.append(claims.take(name)))
    waiter.start()
    turn.close()
    poll(lambda: taken)
    waiter.join()
    taken[0].close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_claims_count_between_users() -> None:
    name, nobody = uuid(), 65534
    code = (
        "import os, sys; from tmuxevolve import claims\n"
        f"os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})\n"
        f"claim = claims.take({name!r}); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert answer(other) == "held"
        with pytest.raises(claims.ClaimedError) as refused:
            claims.take(name)
        assert refused.value.holders == (claims.Holder(name, 1, nobody),)
    finally:
        other.kill()
        other.communicate()
    claims.take(name).close()
