"""What lasts: the states that faults put a simulated venue into, and until when.

Next door: `script.py` says what is due; `venue.py` asks here what holds now.
"""

from __future__ import annotations

from truetape.core.feed.counterpart import Reply
from truetape.core.sim.faults import Fault

SECOND = 1_000_000_000
EVER = 1 << 62
BURST = 100
DRIP = 2_000
"""Bytes a second that a dripping connection gets."""
NOTICE = SECOND
"""How long before its cut a connection is told, where the venue announces such things."""


class Trouble:
    """Until when each state holds, ns, by the name of its fault. `skew` is how far the venue's clock is ahead."""

    def __init__(self) -> None:
        self.skew = 0
        self.lifetime = 0
        self._until: dict[str, int] = {}

    def begin(self, fault: Fault, now: int) -> None:
        """A fault that lasts."""
        if fault.name == "clock-jump":
            self.skew += round(fault.seconds * SECOND)
        elif fault.name == "lifetime-cut":
            self.lifetime = round(fault.seconds * SECOND)
        else:
            self._until[fault.name] = now + round(fault.seconds * SECOND) if fault.seconds else EVER

    def holds(self, name: str) -> bool:
        """Whether it does: what ended was taken out by `ended`."""
        return name in self._until

    def ended(self, now: int) -> list[str]:
        """What is over, said once."""
        if not self._until:
            return []
        over = [name for name, until in self._until.items() if now >= until]
        for name in over:
            del self._until[name]
        return over

    def refusal(self, now: int) -> Reply | None:
        """How a handshake is refused."""
        until = self._until.get("refuse-429", 0)
        if now >= until:
            return None
        wait = -(-(until - now) // SECOND)
        headers = (("Content-Type", "application/json"), ("Retry-After", str(wait)))
        return Reply(429, b'{"code":429,"message":"too many requests"}', headers)
