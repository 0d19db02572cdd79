"""One connection to a venue: dial, subscribe at the venue's pace, ping, notice silence, back off, and restore everything.

    IDLE --start--> DIALING --opened--> OPEN --lost--> WAITING --backoff over--> DIALING ...      any --fatal code--> STOPPED

The registry of wants is the only truth: whatever happened, an opened connection is asked for all of them again. Outputs are
effects (`model.effect`); the driver in `io.net` applies them. Next door: `venue.py` speaks the dialect; the pump routes what was decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Literal

from msgspec import Struct

from truetape.core.feed.venue import Accepted, Dialect, Limits, Rejected, Want
from truetape.model.effect import Close, Effect, Open, Ping, Send
from truetape.model.reason import remedy

SECOND = 1_000_000_000
GARBAGE_MAX = 20
"""Undecodable frames in a row before we hang up."""
ASKS_MAX = 4
"""Times a subscription is asked for on one connection before it is opened anew."""
BURST = 1.0
"""Seconds' worth of messages that may leave at once when nothing was sent for a while."""


class Timing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every timing of a session, in seconds; 0 turns a watch off."""

    ping_every_s: float = 2.0
    pong_within_s: float = 2.0
    app_ping_every_s: float = -1.0  # -1: as the venue expects
    dead_after_s: float = -1.0  # silence of the whole connection; -1: as the venue expects
    ack_within_s: float = 5.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    jitter: float = 0.3
    attempts_max: int = 0  # 0: no limit
    healthy_after_s: float = 10.0
    handshake_s: float = 10.0
    dial_s: float = 5.0
    close_s: float = 10.0
    messages_per_s: float = -1.0  # -1: the venue's own limit


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)


class Session:
    """Drives one dialect over one connection. Each input returns the effects that it caused."""

    def __init__(
        self, source: str, dialect: Dialect, url: str, wants: Sequence[Want], timing: Timing, random: Random
    ) -> None:
        self.source = source
        self.dialect = dialect
        self.url = url
        self.timing = timing
        self.state: Literal["IDLE", "DIALING", "OPEN", "WAITING", "STOPPED"] = "IDLE"
        self.reason = ""
        self.attempts = 0
        self.reconnects = 0
        self.opened_at = 0
        self.last_rx = 0
        self.rtt_ns = -1
        self.offset_ns: int | None = None
        self.garbage = 0
        limits: Limits = dialect.limits
        app_ping = timing.app_ping_every_s if timing.app_ping_every_s >= 0 else limits.ping_every_s
        self._app_ping_every = _ns(app_ping)
        self._dead_after = _ns(timing.dead_after_s if timing.dead_after_s >= 0 else limits.dead_after_s)
        self._rate = timing.messages_per_s if timing.messages_per_s >= 0 else limits.messages_per_s
        self._random = random
        self._wants: dict[tuple[str, str], Want] = {(want.channel, want.raw): want for want in wants}
        self._unacked: dict[tuple[str, str], int] = {}  # -> times asked
        self._outbox: deque[bytes] = deque()
        self._next_send = 0
        self._next_ping = 0
        self._next_app_ping = 0
        self._pong_by = 0
        self._ack_by = 0
        self._dial_at = 0
        self._ping_at = 0

    # -- what is wanted -------------------------------------------------------------------------------------------------

    @property
    def wants(self) -> list[Want]:
        """The registry: all that this connection is to carry."""
        return list(self._wants.values())

    @property
    def unacknowledged(self) -> list[tuple[str, str]]:
        """(channel, raw) of what was asked for and not yet confirmed."""
        return list(self._unacked)

    def want(self, wants: Sequence[Want], now: int) -> list[Effect]:
        """Add subscriptions while running."""
        fresh = [want for want in wants if (want.channel, want.raw) not in self._wants]
        self._wants.update({(want.channel, want.raw): want for want in fresh})
        return self._ask(fresh, now) if self.state == "OPEN" else []

    def unwant(self, wants: Sequence[Want], now: int) -> list[Effect]:
        """Remove subscriptions while running."""
        gone = [want for want in wants if self._wants.pop((want.channel, want.raw), None) is not None]
        for want in gone:
            self._unacked.pop((want.channel, want.raw), None)
        if self.state != "OPEN" or not gone:
            return []
        self._outbox.extend(self.dialect.unsubscribe(gone))
        return self._pump_out(now)

    def resubscribe(self, wants: Sequence[Want], now: int) -> list[Effect]:
        """Ask for these anew, for a fresh snapshot on the same connection."""
        if self.state != "OPEN" or not wants:
            return []
        self._outbox.extend(self.dialect.unsubscribe(wants))
        return self._ask(wants, now)

    def _ask(self, wants: Sequence[Want], now: int) -> list[Effect]:
        size = max(1, self.dialect.limits.wants_per_message)
        for start in range(0, len(wants), size):
            self._outbox.extend(self.dialect.subscribe(wants[start : start + size]))
        for want in wants:
            key = (want.channel, want.raw)
            self._unacked[key] = self._unacked.get(key, 0) + 1
        self._ack_by = now + _ns(self.timing.ack_within_s) if self.timing.ack_within_s else 0
        return self._pump_out(now)

    def _pump_out(self, now: int) -> list[Effect]:
        """Send what the venue's pace allows now; the rest waits for `tick`."""
        sends: list[Effect] = []
        step = _ns(1 / self._rate) if self._rate > 0 else 0
        self._next_send = max(self._next_send, now - _ns(BURST) + step)
        while self._outbox and self._next_send <= now:
            sends.append(Send(self.source, self._outbox.popleft()))
            self._next_send += step
        return sends

    # -- life of the connection -----------------------------------------------------------------------------------------

    def start(self, now: int) -> list[Effect]:
        """Dial for the first time, or again after a wait."""
        self.state = "DIALING"
        self.attempts += 1
        # the driver has its own dial and handshake limits; this one only guards against a driver that never answers
        self._dial_at = now + _ns(self.timing.dial_s + self.timing.handshake_s + 5)
        return [Open(self.source, self.url)]

    def opened(self, now: int) -> list[Effect]:
        """The connection stands: ask for everything in the registry."""
        self.state = "OPEN"
        self.reason = ""
        self.opened_at = self.last_rx = now
        self.garbage = 0
        self._outbox.clear()
        self._unacked.clear()
        self._dial_at = 0
        self._pong_by = 0
        self._next_send = now - _ns(BURST)
        self._next_ping = now + _ns(self.timing.ping_every_s) if self.timing.ping_every_s else 0
        self._next_app_ping = now + self._app_ping_every if self._app_ping_every else 0
        return self._ask(self.wants, now)

    def lost(self, reason: str, now: int, *, code: int = 0, retry_after_s: float = -1.0) -> None:
        """The connection ended or could not be made: wait, then dial again, or stop where a person must act."""
        healthy = self.state == "OPEN" and now - self.opened_at >= _ns(self.timing.healthy_after_s)
        if self.state == "OPEN":
            self.reconnects += 1
        if healthy:
            self.attempts = 0
        cure = remedy(self.reason.partition(":")[0]) if self.reason else "backoff"
        why = f"{self.reason}; {reason}" if self.reason and reason not in self.reason else reason
        self.reason = why
        self._outbox.clear()
        self._unacked.clear()
        self._pong_by = self._next_ping = self._next_app_ping = self._ack_by = 0
        limit = self.timing.attempts_max
        if self.state == "STOPPED" or cure == "stop" or (limit and self.attempts >= limit):
            self.state = "STOPPED"
            return
        self.state = "WAITING"
        self._dial_at = now + self._wait(cure == "retry_now" or healthy, retry_after_s)

    def _wait(self, first_at_once: bool, retry_after_s: float) -> int:
        """How long to wait: the venue's own time if it gave one; a first attempt within 250 ms; else doubling, with jitter."""
        if retry_after_s >= 0:
            return _ns(retry_after_s + self._random.random() * self.timing.jitter)
        if first_at_once and self.attempts == 0:
            return _ns(self._random.random() * 0.25)
        doubled = self.timing.backoff_first_s * 2 ** min(max(self.attempts - 1, 0), 30)
        return _ns(min(self.timing.backoff_max_s, doubled) * (1 + self.timing.jitter * (2 * self._random.random() - 1)))

    def stop(self, reason: str) -> list[Effect]:
        """End for good."""
        was = self.state
        self.state = "STOPPED"
        self.reason = reason
        self._outbox.clear()
        return [Close(self.source, reason)] if was in ("OPEN", "DIALING") else []

    def restore(self, state: str, opened_at: int, last_rx: int) -> None:
        """Put back what a checkpoint kept; timers begin anew (on a replay their effects are not applied)."""
        states: dict[str, Literal["IDLE", "DIALING", "OPEN", "WAITING", "STOPPED"]] = {
            "DIALING": "DIALING", "OPEN": "OPEN", "WAITING": "WAITING", "STOPPED": "STOPPED",
        }  # fmt: skip
        self.state = states.get(state, "IDLE")
        self.opened_at, self.last_rx = opened_at, last_rx

    # -- what the venue says --------------------------------------------------------------------------------------------

    def ponged(self, rtt_ns: int) -> None:
        """A pong came for our ping."""
        self.rtt_ns = rtt_ns
        self._pong_by = 0

    def alive(self, ts: int, pong: bool, now: int) -> None:
        """The venue answered our application ping, or beat its heart."""
        if pong and self._ping_at:
            self.rtt_ns = now - self._ping_at
            if ts:
                self.offset_ns = ts - (now - self.rtt_ns // 2)
            self._ping_at = 0

    def undecodable(self) -> list[Effect]:
        """A frame could not be read; many in a row, and we hang up."""
        self.garbage += 1
        if self.garbage < GARBAGE_MAX or self.state != "OPEN":
            return []
        return self._hang_up(f"garbage: {self.garbage} undecodable frames in a row")

    def accepted(self, answer: Accepted) -> None:
        """The venue confirmed subscriptions; an empty symbol stands for all of that channel, no pairs for none."""
        for channel, raw in answer.pairs:
            if raw:
                self._unacked.pop((channel, raw), None)
            else:
                for key in [key for key in self._unacked if not channel or key[0] == channel]:
                    del self._unacked[key]

    def flowing(self, channel: str, raw: str) -> None:
        """Data came for this subscription: as good as an acknowledgment."""
        self._unacked.pop((channel, raw), None)

    def rejected(self, answer: Rejected, now: int) -> list[Effect]:
        """The venue said no; the table of reasons knows the one remedy."""
        cure = remedy(answer.reason)
        for pair in (
            answer.pairs if cure == "drop" else ()
        ):  # what must wait, or failed for the venue's sake, is asked for again
            self._unacked.pop(pair, None)
            self._wants.pop(pair, None)
        if cure == "stop":
            self.state = "STOPPED"
            self.reason = f"{answer.reason}: {answer.text}"
            return [Close(self.source, self.reason)]
        if cure == "wait":
            wait = answer.retry_after_s if answer.retry_after_s >= 0 else 5.0
            self._next_send = max(self._next_send, now + _ns(wait))
            self._ack_by = self._next_send + _ns(self.timing.ack_within_s) if self._unacked else 0
        return []

    def _hang_up(self, reason: str) -> list[Effect]:
        self.reason = reason
        self._pong_by = self._next_ping = self._next_app_ping = self._ack_by = 0
        return [Close(self.source, reason, abort=True)]

    # -- time -----------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> int | None:
        """When `tick` is next due, ns; None when nothing is."""
        if self.state in ("WAITING", "DIALING"):
            return self._dial_at or None
        if self.state != "OPEN":
            return None
        silence = self.last_rx + self._dead_after if self._dead_after else 0
        sends = self._next_send if self._outbox else 0
        acks = self._ack_by if self._unacked else 0
        due = [at for at in (self._next_ping, self._next_app_ping, self._pong_by, silence, sends, acks) if at]
        return min(due, default=None)

    def tick(self, now: int) -> list[Effect]:
        """Do what is due."""
        if self.state == "WAITING":
            return self.start(now) if now >= self._dial_at else []
        if self.state == "DIALING" and now >= self._dial_at:
            self.lost("dial_failed: the driver never answered", now)
            return []
        if self.state != "OPEN":
            return []
        if self._pong_by and now >= self._pong_by:
            if self.last_rx <= self._pong_by - _ns(self.timing.pong_within_s):
                return self._hang_up(f"dead_link: nothing within {self.timing.pong_within_s:g} s of a ping")
            self._pong_by = 0  # other bytes came after the ping: the link lives, even if its pongs do not
        if self._dead_after and now - self.last_rx >= self._dead_after:
            return self._hang_up(f"silence: nothing for {self._dead_after / SECOND:g} s")
        return self._beat(now)

    def _beat(self, now: int) -> list[Effect]:
        effects: list[Effect] = []
        if self._next_ping and now >= self._next_ping:
            self._next_ping = now + _ns(self.timing.ping_every_s)
            if not self._pong_by and self.timing.pong_within_s:
                self._pong_by = now + _ns(self.timing.pong_within_s)
            effects.append(Ping(self.source))
        if self._next_app_ping and now >= self._next_app_ping:
            self._next_app_ping = now + self._app_ping_every
            if (data := self.dialect.ping()) is not None:
                self._ping_at = now
                effects.append(Send(self.source, data))
        if self._unacked and self._ack_by and now >= self._ack_by:
            if max(self._unacked.values()) >= ASKS_MAX:
                return self._hang_up(
                    f"unacknowledged: {len(self._unacked)} subscriptions were asked for {ASKS_MAX} times"
                )
            effects += self._ask([self._wants[key] for key in self._unacked if key in self._wants], now)
        return effects + self._pump_out(now)
