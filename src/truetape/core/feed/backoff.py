"""How long to wait before the next dial: within 250 ms after health, then doubling to a cap, spread by jitter.

    lost after health --> 0..250 ms        lost again --> first, 2 x first, 4 x first ... up to the cap, each ± jitter

The waits are reset by a period of health only: a connection that opens and breaks at once is no health. Of two clients that were cut
off together, jitter alone keeps one from dialing with the other; so the first wait at the cap, where doubling spreads them no further,
is drawn between the first wait and the cap if the jitter is narrow (below `WIDE`): 500 clients with ±10 % would else meet in one second
with 17 % of them after an outage of 60 s. From then on the waits are as configured again. Next door: `session.py`, which dials.
"""

from __future__ import annotations

from random import Random
from typing import Literal, TypeAlias

from truetape.core.feed.pace import WAIT_MAX_S

SECOND = 1_000_000_000
FIRST_WITHIN_S = 0.25
WIDE = 0.3
"""Jitter that spreads clients by itself: ±30 % puts at most 8 % of 500 clients into one second after an outage of 60 s."""
LATER = 0.1
"""After the venue's own time, at most this share of it is added."""
Jitter: TypeAlias = float | Literal["full"]
"""A share (0.3 is ±30 %), or `full`: anything between nothing and the wait."""


class Backoff:
    """Waits of one connection. `draws` counts what was taken from the given luck, so that a checkpoint can go on with the same."""

    __slots__ = ("_first_s", "_jitter", "_most_s", "_random", "attempts", "draws")

    def __init__(self, first_s: float, most_s: float, jitter: Jitter, random: Random) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._jitter = jitter
        self._random = random
        self.attempts = 0  # dials since the last period of health
        self.draws = 0

    def wait(self, at_once: bool, least_s: float = -1.0) -> int:
        """How long to wait now, ns. `at_once`: a healthy connection ended. `least_s`: not before (the venue's own time), -1 none."""
        chance = self._draw()
        if least_s >= 0:
            return self._after(min(least_s, WAIT_MAX_S), chance)
        if at_once and self.attempts == 0:
            return round(chance * FIRST_WITHIN_S * SECOND)
        return round(self._doubled(chance) * SECOND)

    def _after(self, least_s: float, chance: float) -> int:
        """Never before the venue's time, and soon after: those whom it told the same must not come back together.

        A venue that says 0 again and again is met with the usual waits.
        """
        spread = chance * max(FIRST_WITHIN_S, least_s * LATER) if self._jitter else 0.0
        usual = self._doubled(chance) if self.attempts > 1 and least_s < self._first_s else 0.0
        return round(min(max(least_s + spread, usual), WAIT_MAX_S) * SECOND)

    def _doubled(self, chance: float) -> float:
        doublings = min(max(self.attempts - 1, 0), 30)
        doubled = self._first_s * (1 << doublings)
        if self._jitter == "full":
            return chance * min(self._most_s, doubled)
        most = self._most_s / (1 + self._jitter)  # so that no jitter leads beyond the cap
        if doubled >= most > doubled / 2 and doublings and 0 < self._jitter < WIDE:
            return self._first_s + chance * (self._most_s - self._first_s)
        return min(most, doubled) * (1 + self._jitter * (2 * chance - 1))

    def _draw(self) -> float:
        self.draws += 1
        return self._random.random()

    def load(self, attempts: int, draws: int) -> None:
        """Put a fresh one where another was, its luck included."""
        self.attempts = attempts
        while self.draws < draws:
            self._draw()
