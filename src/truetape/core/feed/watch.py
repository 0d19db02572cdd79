"""Whether the link of one connection lives: protocol and application pings, their answers, silence, and how far the venue's clock is off.

    ping leaves --any bytes after it--> alive        --nothing within `pong_within`--> dead: the session hangs up, the driver aborts

A link that died is found within `ping_every + pong_within` of its last byte, whatever became of the ping itself: one that is stuck in a
full send buffer is waited for no longer than one that left. Next door: `session.py` asks and obeys; `io.net.driver` writes the pings.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct, field

SECOND = 1_000_000_000
STALL = SECOND // 2
"""A tick that comes later than this was held up, and so was the reading of what came: links are not judged at once."""
PATIENCE = SECOND // 10
"""But so much later: a loop reads every socket that has something in its next turn."""
KEPT = 100
"""Pings whose answers are counted for the rate."""

Beat: TypeAlias = Literal["ping", "app_ping"]


class Pings(Struct, array_like=True):
    """The last pings of one kind: when each left, and the round trip of its answer, ns (-1: none yet)."""

    sent: int = 0
    answered: int = 0
    rows: list[list[int]] = []

    def left(self, now: int) -> None:
        """A ping was asked for."""
        del self.rows[: max(0, len(self.rows) + 1 - KEPT)]
        self.rows.append([now, -1])
        self.sent += 1

    def answer(self, sent_at: int, rtt_ns: int) -> bool:
        """An answer came to the last ping that was asked for at or before `sent_at`; False if it had one already, or there is none."""
        for row in reversed(self.rows):
            if row[0] <= sent_at:
                if row[1] >= 0:
                    return False
                row[1] = rtt_ns
                self.answered += 1
                return True
        return False

    def rate(self, within: int, now: int) -> float | None:
        """The share of the last pings that were answered, of those that should have been by now; None before the first."""
        ripe = [rtt >= 0 for at, rtt in self.rows if rtt >= 0 or now - at >= within]
        return sum(ripe) / len(ripe) if ripe else None

    def worst_ns(self) -> int:
        """The longest round trip of the last pings, -1 without one."""
        return max((rtt for _, rtt in self.rows), default=-1)


class WatchState(Struct, array_like=True):
    """When each thing is next due, ns, 0 never; and what was measured. For a checkpoint, and for the watch itself."""

    ping: int = 0
    app_ping: int = 0
    pong: int = 0
    patience: int = 0  # no link is judged before
    patient_at: int = -1  # the last byte when patience was last granted: it is granted once for each silence
    asked: int = 0  # when the application ping left whose answer will be the next; 0 where that cannot be told
    waiting: int = 0  # application pings that are not answered yet
    unsent: int = 0  # bytes that waited for the socket at the last ping
    stuck: int = 0  # since when none of them left; 0: they do
    rtt_ns: int = -1
    offset_ns: int | None = None
    pings: Pings = field(default_factory=Pings)
    app_pings: Pings = field(default_factory=Pings)
    mute: int = 0  # until then we may send nothing: a venue that speaks when spoken to owes us nothing


class Watch:
    """Times in ns, 0 turns one off. `last_rx`, which the pump stamps on each frame, is the session's and is handed in."""

    __slots__ = ("app_every", "dead_after", "ping_every", "pong_within", "state")

    def __init__(self, ping_every: int, pong_within: int, app_every: int, dead_after: int) -> None:
        self.ping_every = ping_every
        self.pong_within = pong_within
        self.app_every = app_every
        self.dead_after = dead_after
        self.state = WatchState()

    def opened(self, now: int) -> None:
        """A connection stands: its first pings are due in their time."""
        self.closed()
        self.state.ping = now + self.ping_every if self.ping_every else 0
        self.state.app_ping = now + self.app_every if self.app_every else 0

    def closed(self) -> None:
        """The connection went: nothing is due; what was measured stays."""
        was = self.state
        self.state = WatchState(rtt_ns=was.rtt_ns, offset_ns=was.offset_ns, pings=was.pings, app_pings=was.app_pings)

    def woke(self, now: int) -> None:
        """After a sleep nothing is believed: ask now, and await no older answer."""
        mute = self.state.mute
        self.opened(now)
        self.state.ping = now if self.ping_every else 0
        self.state.app_ping = now if self.app_every else 0
        if mute > now:
            self.hold(mute)

    def hold(self, until: int) -> None:
        """The venue asked for a pause: its own pings wait too. The protocol's go on, for they are no messages, and a dead link is dead."""
        on = self.state
        on.mute = max(on.mute, until)
        if on.app_ping:
            on.app_ping = max(on.app_ping, until)

    # -- answers --------------------------------------------------------------------------------------------------------

    def ponged(self, rtt_ns: int, now: int) -> None:
        """A pong came for our ping of `rtt_ns` ago; -1 where it does not say which."""
        self.state.pong = 0
        if rtt_ns >= 0:
            self.state.rtt_ns = rtt_ns
            self.state.pings.answer(now - rtt_ns, rtt_ns)

    def unsent(self, waiting: int, now: int) -> str:
        """When a ping was written, so many bytes waited before it. Why the link is to be given up: none left since a ping long ago."""
        on = self.state
        if not waiting:
            on.stuck = 0
        elif not on.stuck or waiting < on.unsent:
            on.stuck = now
        on.unsent = waiting
        # pings find it on their grid: a ping that comes a little early is not to cost a whole turn
        if not on.stuck or not self.pong_within or now - on.stuck < self.pong_within - self.ping_every // 4:
            return ""
        return f"dead_link: nothing could be written for {(now - on.stuck) / SECOND:.1f} s, {waiting} bytes wait"

    def answered(self, ts: int, now: int) -> None:
        """The venue answered our application ping; `ts` is its clock, 0 where it says none."""
        on = self.state
        if not on.waiting:
            return
        on.waiting -= 1
        asked, on.asked = on.asked, 0
        if not asked:  # several were on their way: which of them this answers is not said
            pings = on.app_pings
            pings.answer(pings.rows[max(0, len(pings.rows) - 1 - on.waiting)][0], 0)
            return
        on.rtt_ns = now - asked
        if ts:
            on.offset_ns = ts - (now - on.rtt_ns // 2)
        on.app_pings.answer(asked, on.rtt_ns)

    # -- time -----------------------------------------------------------------------------------------------------------

    def times(self, last_rx: int) -> tuple[int, int, int, int]:
        """When each thing is due; 0 never."""
        on = self.state
        pong = max(on.pong, on.patience) if on.pong else 0
        silence = max(max(last_rx, on.mute) + self.dead_after, on.patience) if self.dead_after else 0
        return on.ping, on.app_ping, pong, silence

    def held_up(self, last_rx: int, now: int) -> None:
        """A tick came late by more than STALL: what came meanwhile is to be read first. Once for each silence, or it might never end."""
        on = self.state
        if on.patient_at != last_rx:
            on.patient_at = last_rx
            on.patience = now + PATIENCE

    def dead(self, last_rx: int, now: int) -> str:
        """Why the link is to be given up; empty while it is believed."""
        on = self.state
        if now < on.patience:
            return ""
        if on.pong and now >= on.pong:
            if not self._heard_since_ping(last_rx):
                return f"dead_link: nothing within {self.pong_within / SECOND:g} s of a ping"
            on.pong = 0  # the link lives, even if its pongs do not
        if self.dead_after and now - max(last_rx, on.mute) >= self.dead_after:
            return f"silence: nothing for {self.dead_after / SECOND:g} s"
        return ""

    def _heard_since_ping(self, last_rx: int) -> bool:
        """Whether any bytes came after the ping whose pong is awaited."""
        return last_rx > self.state.pong - self.pong_within

    def beats(self, last_rx: int, now: int) -> list[Beat]:
        """The pings that are due. They keep their grid, so that ticks which come a little late do not add up."""
        on = self.state
        due: list[Beat] = []
        if on.ping and now >= on.ping:
            on_time = now - on.ping < STALL
            meant = on.ping if on_time else now
            on.ping = max(meant, now - self.ping_every // 2) + self.ping_every
            if self.pong_within and (not on.pong or self._heard_since_ping(last_rx)):
                on.pong = max(meant, now - self.pong_within // 2) + self.pong_within
            self.state.pings.left(now)
            due.append("ping")
        if on.app_ping and now >= on.app_ping:
            on.app_ping = max(on.app_ping, now - min(STALL, self.app_every // 2)) + self.app_every
            due.append("app_ping")
        return due

    def asked(self, now: int) -> None:
        """The application ping that was due has words, and leaves."""
        on = self.state
        if not on.waiting:
            on.asked = now
        on.waiting += 1
        on.app_pings.left(now)
