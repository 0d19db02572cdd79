"""Memory that is short for a while: the guard, and consumers' boxes, with what these declare in the place of resident memory.

The rule: over the budget after shedding for two beats running, though there is something left to give up, is a fault. Next door: `mishap.py`
says when; `reader.py` sees that what was shed is told, and that every ledger balances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from truetape.core.guard import Guard, Restart, Shed
from truetape.core.route import shed
from truetape.core.route.mailbox import OUTSIDE, Lag, Mailbox
from truetape.core.weather.clock import SECOND, Clock
from truetape.core.weather.reader import Violation

BEAT = SECOND // 4
BUDGET = 20_000
"""Bytes: what some tens of events take."""
BEATS = 2
EVERY = 1 << 20
"""Events looked at: no estimate here, for it is not what is judged."""


class Press:
    """Beats from `begin` to `end`; `wake` is the driver's, for boxes in which something changed."""

    def __init__(self, clock: Clock, boxes: Sequence[Mailbox], wake: Callable[[int], None]) -> None:
        self.clock = clock
        self.boxes = boxes
        self.wake = wake
        self.shed = 0  # events
        self._guard: Guard | None = None
        self._over = 0

    def begin(self) -> None:
        """From now on memory is short."""
        if self._guard is None:
            self._guard, self._over = Guard(BUDGET), 0
            self._beat()

    def end(self) -> None:
        """There is enough again."""
        self._guard = None

    def _beat(self) -> None:
        guard, now = self._guard, self.clock.now
        if guard is None:
            return
        self.clock.after(BEAT, self._beat)
        held = self._held()
        if not guard.wants(held, now):
            return
        for order in guard.sampled(held, held, now):
            if isinstance(order, Shed) and order.kind in ("superseded", "oldest"):
                self._give(guard, order, held - order.bytes)
            elif isinstance(order, Restart):
                self._guard = Guard(BUDGET)  # the process begins anew; whether it had to is judged below
        self._judge(self._held())
        self.wake(now)

    def _give(self, guard: Guard, order: Shed, down_to: int) -> None:
        """The router and the readers here remember events, so that less is free than was given: until enough is."""
        count = 1
        while count and (more := self._held() - down_to) > 0:
            superseded = order.kind == "superseded"
            count, size = shed.relieve(self.boxes, more, self.clock.now, superseded=superseded)
            guard.shed(order.kind, count, size)
            self.shed += count

    def _judge(self, held: int) -> None:
        left = sum(map(_could_go, self.boxes))
        self._over = self._over + 1 if held > BUDGET and left else 0
        if self._over >= BEATS:
            raise Violation(f"memory: {held} of {BUDGET} bytes after shedding twice, and {left} events could go")

    def _held(self) -> int:
        return sum(shed.weigh(box, EVERY) for box in self.boxes)


def _could_go(box: Mailbox) -> int:
    """Events that may be shed: of a conflating box what a notice released."""
    if box.closed_reason is not None:
        return 0
    return sum(
        type(item) is not Lag and type(item) not in OUTSIDE for item in (box.front if box.mode.whole else box.inbox)
    )
