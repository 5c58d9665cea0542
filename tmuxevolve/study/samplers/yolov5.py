"""YOLOv5 v7.0's rule: a child of one of the five best generations."""

from __future__ import annotations

from random import Random

from tmuxevolve.study import mutation
from tmuxevolve.study.samplers import Drawn, View


class Mutation:
    """Mutates a parent drawn among the best; the base hyps while there is none."""

    whole_history = False

    def draw(self, view: View, rng: Random) -> Drawn:
        """Return a child of one of the best."""
        parent = mutation.select_parent(view.parents, rng)
        return Drawn(mutation.mutate(parent.hyp if parent else view.base, view.space, rng))
