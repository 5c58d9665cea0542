"""Random search: what every other way of drawing has to beat."""

from __future__ import annotations

from random import Random

from tmuxevolve.study.samplers import Drawn, View


class Uniform:
    """Draws every hyp evenly within its bounds; those without a gain stay."""

    whole_history = False

    def draw(self, view: View, rng: Random) -> Drawn:
        """Return hyps that depend on nothing found so far."""
        hyp = dict(view.base)
        for name, bounds in view.space.items():
            if name in hyp and bounds.gain:
                hyp[name] = bounds.settle(rng.uniform(bounds.lower, bounds.upper))
        return Drawn(hyp)
