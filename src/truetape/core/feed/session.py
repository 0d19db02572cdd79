"""One connection to a venue: dial, subscribe at the venue's pace, ping, notice silence, back off, and restore everything.

    IDLE --start--> DIALING --opened--> OPEN --lost--> WAITING --backoff over--> DIALING ...      any --fatal code--> STOPPED

The registry of wants is the only truth: whatever happened, an opened connection is asked for all of them again. Outputs are
effects (`model.effect`); the driver in `io.net` applies them. Next door: `venue.py` speaks the dialect; `asking.py` has the registry and asks,
`watch.py` knows whether the link lives; the pump routes what was decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random

from truetape.core.feed.asking import Asking
from truetape.core.feed.backoff import Backoff
from truetape.core.feed.circuit import Circuits
from truetape.core.feed.due import Due, SessionState, State
from truetape.core.feed.pace import WAIT_MAX_S
from truetape.core.feed.refusal import wait_s
from truetape.core.feed.timing import Timing
from truetape.core.feed.venue import Accepted, Dialect, Limits, Rejected, Want
from truetape.core.feed.watch import STALL, Watch
from truetape.model.effect import Close, Effect, Open, Ping, Send
from truetape.model.reason import remedy

__all__ = ["ASKS_MAX", "GARBAGE_MAX", "Session", "Timing"]

SECOND = 1_000_000_000
GARBAGE_MAX = 20
"""Undecodable frames in a row before we hang up."""
ASKS_MAX = 4
"""Times a subscription is asked for on one connection before it is opened anew."""


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)


class Session:
    """Drives one dialect over one connection. Each input returns the effects that it caused."""

    def __init__(
        self,
        source: str,
        dialect: Dialect,
        url: str,
        wants: Sequence[Want],
        timing: Timing,
        random: Random,
        alternates: Sequence[str] = (),
        circuits: Circuits | None = None,
    ) -> None:
        self.source = source
        self.urls = [url, *alternates]
        self.circuits = circuits if circuits is not None else Circuits(self.urls)
        self.place = 0  # which of them
        self.timing = timing
        self.state: State = "IDLE"
        self.reason = ""
        self.reconnects = 0
        self.opened_at = 0
        self.last_rx = 0
        self.garbage = 0
        limits: Limits = dialect.limits
        app_ping = timing.app_ping_every_s if timing.app_ping_every_s >= 0 else limits.ping_every_s
        dead_after = timing.dead_after_s if timing.dead_after_s >= 0 else limits.dead_after_s
        self.watch = Watch(_ns(timing.ping_every_s), _ns(timing.pong_within_s), _ns(app_ping), _ns(dead_after))
        per_s = timing.messages_per_s if timing.messages_per_s >= 0 else limits.messages_per_s
        self.asking = Asking(source, dialect, wants, per_s, _ns(timing.ack_within_s))
        self._backoff = Backoff(timing.backoff_first_s, timing.backoff_max_s, timing.jitter, random)
        self._due = Due()

    # -- what is wanted -------------------------------------------------------------------------------------------------

    @property
    def dialect(self) -> Dialect:
        """Who words what is asked; each connection has a fresh one."""
        return self.asking.dialect

    @dialect.setter
    def dialect(self, fresh: Dialect) -> None:
        self.asking.dialect = fresh

    @property
    def attempts(self) -> int:
        """Dials since the last period of health."""
        return self._backoff.attempts

    @property
    def wants(self) -> list[Want]:
        """The registry: all that this connection is to carry."""
        return list(self.asking.wants.values())

    @property
    def unacknowledged(self) -> list[tuple[str, str]]:
        """(channel, raw) of what was asked for and not yet confirmed."""
        return list(self.asking.acks.pairs)

    def asked_times(self, channel: str, raw: str) -> int:
        """How often this was asked for on this connection without being confirmed; 0 where it was, or nobody waits for that."""
        return self.asking.acks.pairs.get((channel, raw), (0, 0))[0] if self.timing.ack_within_s else 0

    def want(self, wants: Sequence[Want], now: int) -> list[Effect]:
        """Add subscriptions while running."""
        fresh = self.asking.add(wants)
        return self.asking.ask(fresh, now) if self._stands else []

    def unwant(self, wants: Sequence[Want], now: int) -> list[Effect]:
        """Remove subscriptions while running."""
        gone = self.asking.remove(wants)
        if not self._stands or not gone:
            return []
        self.asking.unask(gone)
        return self.asking.leave(now)

    def resubscribe(self, wants: Sequence[Want], now: int) -> list[Effect]:
        """Ask for these anew, for a fresh snapshot on the same connection; what is not in the registry is left alone."""
        wants = [want for want in wants if (want.channel, want.raw) in self.asking.wants]
        if not self._stands or not wants:
            return []
        self.asking.unask(wants)
        return self.asking.ask(wants, now)

    @property
    def _stands(self) -> bool:
        """Open, and not being hung up."""
        return self.state == "OPEN" and not self._due.dial

    # -- life of the connection -----------------------------------------------------------------------------------------

    def start(self, now: int) -> list[Effect]:
        """Dial for the first time, or again after a wait; where no address may be dialed yet, wait on."""
        place = self.circuits.pick(self.source, now)
        if place < 0:
            self.state = "WAITING"
            self._due.dial = self.circuits.free_at
            return []
        self.state, self.place = "DIALING", place
        self._backoff.attempts += 1
        # the driver has its own dial and handshake limits; this one only guards against a driver that never answers
        self._due.dial = now + _ns(self.timing.dial_s + self.timing.handshake_s + 5)
        return [Open(self.source, self.url)]

    @property
    def url(self) -> str:
        """The address that is dialed, or was last."""
        return self.urls[self.place]

    def opened(self, now: int) -> list[Effect]:
        """The connection stands: ask for everything in the registry."""
        if self.state == "STOPPED":
            return [Close(self.source, self.reason)]  # it was being dialed when it was stopped
        self.state = "OPEN"
        self.reason = ""
        self.opened_at = self.last_rx = now
        self.garbage = 0
        self._forget()
        self.watch.opened(now)
        if not self.circuits.clean(self.place):
            self._due.healthy = now + _ns(self.timing.healthy_after_s)
        if self.asking.pace.held > now:
            self.watch.hold(self.asking.pace.held)  # the pause began while it was being dialed
        return self.asking.ask(self.wants, now)

    def lost(self, reason: str, now: int, *, least_s: float = -1.0, answer: Rejected | None = None) -> None:
        """The connection ended or could not be made: wait, then dial again, or stop where a person must act.

        `answer` is what the venue said by it, if it said anything; `least_s` the time that it wants to be left alone, -1 none.
        """
        healthy = self.state == "OPEN" and now - self.opened_at >= _ns(self.timing.healthy_after_s)
        if self.state == "OPEN":
            self.reconnects += 1
        if healthy:
            self._backoff.attempts = 0
            self.circuits.healthy(self.place)
        ended = self.reason if self.state in ("OPEN", "STOPPED") else ""  # set where we hung up ourselves
        if answer is not None and not ended:
            more = f": {answer.text}" if answer.text and answer.text not in reason else ""
            reason = f"{answer.reason}: {reason}{more}"
        cure = remedy((ended or reason).partition(":")[0])
        cure = "backoff" if cure == "retry_now" and not ended else cure
        if not healthy and self.state in ("DIALING", "OPEN") and cure in ("backoff", "retry_now"):
            self.circuits.failed(self.place, self.source, now)
        else:
            self.circuits.left(self.source)
        self.reason = f"{ended}; {reason}" if ended and reason not in ended else ended or reason
        self._forget()
        limit = self.timing.attempts_max
        if limit and self.attempts >= limit and self.state != "STOPPED":
            self.reason += f"; given up after {self.attempts} attempts"
        if self.state == "STOPPED" or cure == "stop" or (limit and self.attempts >= limit):
            self.state = "STOPPED"
            return
        self.state = "WAITING"
        wait = self._backoff.wait(cure == "retry_now" or healthy, least_s)
        self._due.dial = max(now + wait, self.asking.pace.held)  # a pause that the venue asked for is one for dials too

    def _forget(self) -> None:
        """What belonged to the last connection is void."""
        self.asking.forget()
        self.watch.closed()
        self._due = Due()

    def stop(self, reason: str, state: State = "STOPPED") -> list[Effect]:
        """End for good; IDLE where something else carries what this connection did."""
        was = self.state
        self.circuits.left(self.source)
        self.state = state
        self.reason = reason
        self._forget()
        return [Close(self.source, reason)] if was in ("OPEN", "DIALING") else []

    # -- for a checkpoint -----------------------------------------------------------------------------------------------

    def save(self) -> SessionState:
        """All that later states and messages depend on."""
        asking = self.asking
        return SessionState(
            self.state, self.reason, self.attempts, self.reconnects, self.opened_at, self.last_rx,
            self.garbage, self._backoff.draws, self.watch.state, self._due, self.wants, asking.acks.save(), list(asking.outbox),
            asking.pace.save(), self.place,
        )  # fmt: skip

    def load(self, saved: SessionState) -> None:
        """Put a fresh session back as it was saved, its luck included."""
        self.state, self.reason = saved.state, saved.reason
        self.reconnects, self.opened_at, self.last_rx = saved.reconnects, saved.opened_at, saved.last_rx
        self.garbage, self.watch.state, self._due = saved.garbage, saved.watch, saved.due
        self.asking.wants = {(want.channel, want.raw): want for want in saved.wants}
        self.asking.acks.load(saved.acks)
        self.asking.outbox = deque(saved.outbox)
        self.asking.pace.load(saved.pace)
        self._backoff.load(saved.attempts, saved.draws)
        self.place = saved.place

    # -- what the venue says --------------------------------------------------------------------------------------------

    def ponged(self, rtt_ns: int, now: int) -> None:
        """A pong came for our ping of `rtt_ns` ago; -1 where it does not say which."""
        self.last_rx = now
        self.watch.ponged(rtt_ns, now)

    def unsent(self, waiting: int, now: int) -> list[Effect]:
        """So many bytes waited for the socket when a ping was written; where none of them leaves for too long, we hang up."""
        why = self.watch.unsent(waiting, now) if self._stands else ""
        return self.hang_up(why, now) if why else []

    def slept(self, ns: int, now: int) -> None:
        """The machine was suspended for `ns`, which `now` counts: the link is asked at once, and the time is not held against it."""
        if self.state == "DIALING" or (self.state == "OPEN" and self._due.dial):
            self._due.dial += ns  # the driver's own limits slept too
        elif self.state == "OPEN":
            self.opened_at += ns
            self.last_rx += ns
            self.watch.woke(now)

    def alive(self, ts: int, pong: bool, now: int) -> None:
        """The venue answered our application ping, or beat its heart."""
        if pong:
            self.watch.answered(ts, now)

    def undecodable(self, now: int) -> list[Effect]:
        """A frame could not be read; many in a row, and we hang up."""
        self.garbage += 1
        if self.garbage < GARBAGE_MAX:
            return []
        return self.hang_up(f"garbage: {self.garbage} undecodable frames in a row", now)

    def accepted(self, answer: Accepted) -> None:
        """The venue confirmed subscriptions; an empty symbol stands for all of that channel, no pairs for none."""
        for channel, raw in answer.pairs:
            self.asking.acks.confirmed(channel, raw)

    def flowing(self, channel: str, raw: str) -> None:
        """Data came for this subscription: as good as an acknowledgment."""
        self.asking.acks.confirmed(channel, raw)

    def rejected(self, answer: Rejected, now: int) -> list[Effect]:
        """The venue said no; the table of reasons knows the one remedy."""
        cure = remedy(answer.reason)
        if cure == "drop" and answer.whole:  # each alone, so that the venue says which it meant
            return self.asking.ask(self.asking.known(answer.pairs), now, 1)
        if cure == "drop":  # what must wait, or failed for the venue's sake, is asked for again
            self.asking.remove(self.asking.known(answer.pairs))
        if cure == "stop":
            return self.stop(f"{answer.reason}: {answer.text}")
        if cure == "wait":
            self.hold(now + _ns(min(wait_s(answer, -1.0), WAIT_MAX_S)))
        return []

    def hold(self, until: int) -> None:
        """The venue asked for a pause: nothing is sent before, and nothing dialed."""
        self.asking.hold(until)
        if self.state == "OPEN":
            self.watch.hold(self.asking.pace.held)
        elif self.state == "WAITING":
            self._due.dial = max(self._due.dial, self.asking.pace.held)

    @property
    def held(self) -> int:
        """Nothing is sent or dialed before, ns."""
        return self.asking.pace.held

    def retry(self, now: int) -> list[Effect]:
        """A person says that it may be tried again: dial, as at first. Only what was stopped is."""
        if self.state != "STOPPED":
            return []
        self._backoff.attempts = 0
        self.reason = ""
        return self.start(now)

    def hang_up(self, reason: str, now: int, *, abort: bool = True) -> list[Effect]:
        """Say so once; the driver answers with `lost`, and if it never does, time does."""
        if self.state != "OPEN" or self._due.dial:
            return []
        self.reason = reason
        self._forget()
        self._due.dial = now + _ns(self.timing.close_s)
        return [Close(self.source, reason, abort)]

    # -- time -----------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> int | None:
        """When `tick` is next due, ns; None when nothing is."""
        due = self._due
        if self.state in ("WAITING", "DIALING") or due.dial:
            return due.dial or None
        if self.state != "OPEN":
            return None
        sends = self.asking.pace.free_at if self.asking.outbox else 0
        times = (*self.watch.times(self.last_rx), sends, self.asking.acks.deadline, due.healthy)
        return min([at for at in times if at], default=None)

    def tick(self, now: int) -> list[Effect]:
        """Do what is due."""
        due = self._due
        if self.state == "WAITING":
            return self.start(now) if now >= due.dial else []
        if self.state == "DIALING" or due.dial:
            if now >= due.dial:
                self.lost("dial_failed: the driver never answered", now)
            return []
        if self.state != "OPEN":
            return []
        if now - (self.deadline or now) > STALL:
            self.watch.held_up(self.last_rx, now)
        if why := self.watch.dead(self.last_rx, now):
            return self.hang_up(why, now)
        return self._beat(now)

    def _beat(self, now: int) -> list[Effect]:
        effects: list[Effect] = []
        if self._due.healthy and now >= self._due.healthy:
            self._due.healthy = 0
            self.circuits.healthy(self.place)
        for beat in self.watch.beats(self.last_rx, now):
            if beat == "ping":
                effects.append(Ping(self.source))
            elif (data := self.dialect.ping()) is not None:
                self.watch.asked(now)
                effects.append(Send(self.source, data))
            else:
                continue
            self.asking.pace.pinged(now)
        if self.asking.acks.deadline and now >= self.asking.acks.deadline:
            late = self.asking.acks.late(now)
            if late and max(late.values()) >= ASKS_MAX:
                return self.hang_up(f"unacknowledged: {len(late)} subscriptions were asked for {ASKS_MAX} times", now)
            effects += self.asking.ask(self.asking.known(late), now)
        return effects + self.asking.leave(now)
