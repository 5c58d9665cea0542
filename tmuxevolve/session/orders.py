"""What ``start`` hands to each worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from tmuxevolve.claims import Claim
from tmuxevolve.config import Session
from tmuxevolve.environment import environment
from tmuxevolve.handover import Parcel
from tmuxevolve.memory import Limit
from tmuxevolve.order import Order
from tmuxevolve.session.evolve import Job
from tmuxevolve.session.plan import Place
from tmuxevolve.slots import cuda_environment, new_worker

if TYPE_CHECKING:
    from tmuxevolve.counter import Direct


class Common(msgspec.Struct, frozen=True):
    """What the orders of one ``start`` have in common.

    ``stagger`` is in seconds; until ``found_until``, on the monotonic clock, the GPUs need not be
    looked at again.
    """

    session: Session
    job: Job
    stagger: float
    environ: Mapping[str, str]
    limit: Limit | None
    found_until: float


def parcels_of(common: Common, held: Sequence[tuple[Place, Claim | None]]) -> list[Parcel]:
    """Return an order and its claim for each place, in order."""
    orders = [order(common, place, number) for number, (place, _) in enumerate(held)]
    return [
        Parcel(told, claim, _direct(told)) for told, (_, claim) in zip(orders, held, strict=True)
    ]


def order(common: Common, place: Place, number: int) -> Order:
    """Return the order for a worker at this place, the ``number``-th of its start."""
    session, slot = common.session, place.slot
    return Order(
        worker=new_worker(slot.name),
        window=slot.name,
        argv=common.job.argv,
        evolution=common.job.evolution,
        workdir=str(session.workdir),
        env={**common.environ, **session.env},
        uuid=slot.uuid,
        gpu=slot.device,
        gpus=session.gpus,
        stop_signal=session.stop.signal,
        stop_grace=float(session.stop.grace),
        delay=number * common.stagger,
        device=cuda_environment(slot.gpu, session.gpus.visible),
        found_until=common.found_until,
        restart=session.restart,
        memory=common.limit,
        session=session.name,
        results=str(session.results),
        notify=session.notify,
    )


def _direct(told: Order) -> Direct | None:
    """Return what to run at once, unless something comes before it: a wait, a study, a limit."""
    if told.delay or told.evolution or told.memory:
        return None
    return {
        "argv": told.argv,
        "folder": told.workdir,
        "env": {**environment(told), **told.device},
        "until": told.found_until,
    }
