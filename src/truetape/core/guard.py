"""The memory guard: from samples of resident memory to what gives way, in one declared order.

    ok ──80 % of the budget──► tight ──90 %──► shedding ──100 %, twice in a row──► restarting
     ▲                          │   ▲              │
     └───────── under 75 % ─────┴───┴──────────────┘

`tight` only tidies: a collection, and free memory back to the system. `shedding` takes from what holds bytes, in `ORDER`, until 75 % would
be reached. At the limit the process is to be drained and begun anew; where it was begun anew a moment ago and is over again, that did not help:
then the guard waits (`RESTART_FIRST_S`, doubling), says so, and goes on shedding.

CPython gives memory back to the system by the megabyte, and only where nothing at all lives in it: what was shed is mostly used again
rather than returned. So what was freed and not filled since counts as free (`slack`), or one burst would cost everything that waits. At the
limit itself nothing counts but resident memory.

What it sheds lies outside the deterministic function (mailboxes, clients, reports), so a replay needs nothing of it; its samples are on
the tape as evidence. Next door: `app/pulse.py` takes the samples, `app/holders.py` carries out what is ordered, `route/shed.py` in mailboxes.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

SECOND = 1_000_000_000
EVERY, EVERY_PRESSED = 5 * SECOND, SECOND // 4
"""Between samples: in peace, and while anything is the matter."""
EASY, TIGHT, SHED = 0.75, 0.80, 0.90
"""Shares of the budget."""
RESTART_FIRST_S, RESTART_MAX_S = 60, 3600
TIDY_EVERY = 60 * SECOND

Kind = Literal["frames", "reports", "history", "superseded", "oldest", "stalled"]
ORDER: tuple[Kind, ...] = ("frames", "reports", "history", "superseded", "oldest", "stalled")
"""What gives way first: events kept encoded, which nobody loses; reports of the past; what downstream clients that come back would go on
from; of the largest mailboxes the oldest states that a later one in the same box replaces; then whatever is oldest in the largest
mailboxes; at last clients whose sockets hold most. Books, and the tape's backlog (which has a bound of its own), never."""
State = Literal["ok", "tight", "shedding", "restarting"]


class Tidy(Struct, frozen=True):
    """Give free memory back to the system; `garbage`: collect all of it first. That holds everything up for as long as much lives, so
    it is left where what is held explains what is used."""

    garbage: bool


class Shed(Struct, frozen=True):
    """Free about so many bytes of this kind, less what the orders before it freed."""

    kind: Kind
    bytes: int


class Restart(Struct, frozen=True):
    """Drain, and begin the process anew."""

    reason: str


class Tell(Struct, frozen=True):
    """Say the new state in band."""

    state: State
    reason: str


Order: TypeAlias = Tidy | Shed | Restart | Tell


class Restarts(Struct, frozen=True):
    """How often the process was begun anew for its memory, one soon after the other, and when last (ns, 0 never)."""

    count: int = 0
    last: int = 0

    @property
    def wait(self) -> int:
        """ns from the last restart until the next is worth trying."""
        return min(RESTART_MAX_S, RESTART_FIRST_S << min(self.count - 1, 10)) * SECOND if self.count else 0

    def after(self, now: int) -> Restarts:
        """As they stand after one more. A long time without one forgets those before."""
        recent = self.last and now - self.last < 2 * self.wait + RESTART_MAX_S * SECOND
        return Restarts(self.count + 1 if recent else 1, now)


class Guard:
    """Judges samples. `budget` in bytes."""

    __slots__ = (
        "_after",
        "_over",
        "_tidied",
        "budget",
        "due",
        "freed",
        "held",
        "peak",
        "reason",
        "restarts",
        "rss",
        "slack",
        "state",
        "waiting",
    )

    def __init__(self, budget: int, restarts: Restarts | None = None) -> None:
        self.budget = budget
        self.restarts = restarts if restarts is not None else Restarts()
        self.state: State = "ok"
        self.reason = ""
        self.rss = self.peak = 0
        self.due = 0
        self.waiting = False  # a restart would be due, but the last did not help
        self.freed: dict[str, list[int]] = {kind: [0, 0] for kind in ORDER}  # pieces (events, rows, clients) and bytes
        self.held = 0  # declared at the last sample by whoever can be shed from
        self.slack = 0  # freed by shedding, and not filled since
        self._after = 0  # what was held after the last shedding
        self._over = False
        self._tidied = 0

    def wants(self, rss: int, now: int) -> bool:
        """Whether a sample is to be taken of what was just seen: it is due, or peace is over."""
        return now >= self.due or (self.state == "ok" and rss >= self.budget * TIGHT)

    def sampled(self, rss: int, held: int, now: int) -> list[Order]:
        """Resident memory, and what all declare to hold that `ORDER` takes from, bytes. Returns what is to be done, in this order."""
        self.rss, self.peak, self.held = rss, max(self.peak, rss), held
        self.slack = max(0, self.slack - max(0, held - self._after))
        self._after = max(self._after, held)
        if self.state == "restarting":
            return []  # nothing is worth doing any more
        share = rss / self.budget
        orders: list[Order] = []
        if share >= TIGHT and (now - self._tidied >= TIDY_EVERY or not self._tidied):
            self._tidied = now
            orders.append(Tidy(garbage=4 * held < rss))
        slack = self.slack if share < 1 else 0
        if rss - slack >= self.budget * SHED:
            want = rss - slack - int(self.budget * EASY)
            orders += [Shed(kind, want) for kind in ORDER]
        orders += self._judge(share, now)
        self.due = now + (EVERY if self.state == "ok" else EVERY_PRESSED)
        self._over = share >= 1
        return orders

    def shed(self, kind: Kind, count: int, size: int) -> None:
        """So much was shed on an order."""
        self.freed[kind][0] += count
        self.freed[kind][1] += size
        self.slack += size
        self._after = self.held = max(0, self.held - size)

    def _judge(self, share: float, now: int) -> list[Order]:
        """The state that this share means, and what is to be said of it."""
        used = f"{self.rss // 1_000_000} of {self.budget // 1_000_000} MB"
        if share >= 1 and self._over:
            if now - self.restarts.last >= self.restarts.wait:
                self.waiting = False
                self.state, self.reason = "restarting", f"memory: {used}, after shedding what could be shed"
                return [Tell(self.state, self.reason), Restart(self.reason)]
            if not self.waiting:
                self.waiting = True
                wait_s = (self.restarts.last + self.restarts.wait - now) // SECOND
                why = f"memory: {used}; a restart did not help, the next is not tried for {wait_s} s; raise [memory] budget_mb"
                return self._enter("shedding", why, again=True)
            return []
        if share >= SHED:
            return self._enter("shedding", f"memory: {used}")
        if share >= TIGHT:
            return self._enter("tight", f"memory: {used}") if self.state != "shedding" else []
        if share < EASY:
            self.waiting = False
            return self._enter("ok", f"memory: {used}")
        return []  # between the marks nothing changes

    def _enter(self, state: State, reason: str, *, again: bool = False) -> list[Order]:
        if state == self.state and not again:
            return []
        self.state, self.reason = state, reason
        return [Tell(state, reason)]
