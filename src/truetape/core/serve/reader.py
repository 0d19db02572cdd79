"""The client's half of the protocol: greet, authenticate, subscribe, take data, and go on where it stopped when the connection breaks.

    idle ─start─► dialing ─opened─► greeting ─hello─► [authenticating ─►] subscribing ─subscribed─► live
                     ▲                                                                               │ lost
                     └────────── waiting: backoff, or as long as the gateway's bye says ◄────────────┘        codes 4500+: ended

One connection carries one subscription, so that a slow one never holds another. Inputs return effects; next door: `intake.py` keeps the
events, `io.net.uplink` moves the bytes, `peer.py` is the other half.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from truetape.core.feed.backoff import Backoff, Jitter
from truetape.core.serve.errand import Dial, Drop, Effect, Ended, Give, Renew, Say, Stand
from truetape.core.serve.frames import Encoding
from truetape.model import wire
from truetape.model.event import Book, Lagged, Market, Status

SECOND = 1_000_000_000
HEALTHY = SECOND
"""A connection that carried data for so long was no bad one: the next dial comes soon."""
RENEW_WITHIN = 60 * SECOND
"""So long before a token expires, at most, another is asked for."""
REFRESH_EVERY = SECOND
FATAL_STATUS = (400, 401, 403, 404, 426)
OFFSET_BYTES = 24
"""Of an offset in a message, beside its topic."""
NOT_RECOVERED = "not_recovered"
UNKNOWN = "unknown_symbol"
"""How the reason of a status begins, where the venue does not know the symbol."""
RENEWABLE = ("no_token", "bad_token", "expired", "revoked")

State: TypeAlias = Literal["idle", "dialing", "greeting", "authenticating", "subscribing", "live", "waiting", "ended"]

_DECODERS: dict[Encoding, Callable[[bytes], wire.ToClient]] = {
    "json": msgspec.json.Decoder(wire.ToClient).decode,
    "msgpack": msgspec.msgpack.Decoder(wire.ToClient).decode,
}


class Timing(Struct, frozen=True, kw_only=True):
    """How a client waits."""

    backoff_first_s: float = 0.25
    backoff_max_s: float = 10.0
    jitter: Jitter = 0.3
    greet_s: float = 10.0
    ping_every_s: float = 5.0
    pong_within_s: float = 5.0


class Reader:
    """One connection of a client, and the subscription on it. `offsets` is how far it came in each topic, within `epoch`."""

    def __init__(self, encoding: Encoding, timing: Timing, random: Random, *, renewable: bool = False) -> None:
        self.timing = timing
        self.want: wire.Subscribe | None = None
        self.state: State = "idle"
        self.end: Ended | None = None
        self.hello: wire.Hello | None = None
        self.epoch = ""
        self.offsets: dict[str, int] = {}
        self._expected = 0  # subscriptions at the venues; 0: not to be told, for there are patterns
        self._unknown: dict[tuple[str, str, str], None] = {}  # those that a venue refused for their symbol
        self._told: dict[str, None] = {}  # losses of which the gateway's own word is still to come
        self.whole: dict[str, None] = {}  # books that have no beginning yet
        self.id = 0
        self.reconnects = 0
        self.recovered = self.unrecovered = 0  # topics that went on, and that did not
        self.why = ""  # the last connection ended
        self._decode = _DECODERS[encoding]
        self._renewable = renewable
        self._token = ""
        self._must_differ = False
        self._refusal = (4501, "bad_token", "")  # what the last token met with
        self._backoff = Backoff(timing.backoff_first_s, timing.backoff_max_s, timing.jitter, random)
        self._bye: wire.Bye | None = None
        self._since = self._heard = self._pinged = self._refreshed = self._renew_at = self._live_at = 0
        self._wait = 0
        self._changes = False

    # -- what the consumer wants ----------------------------------------------------------------------------------------

    def start(self, now: int) -> list[Effect]:
        """Connect."""
        assert self.state == "idle", "started once"
        return self._dial(now)

    def subscribe(self, want: wire.Subscribe, now: int) -> list[Effect]:
        """What this connection is for."""
        assert self.want is None, "one subscription for each connection"
        self.want = want
        self._changes = "book_delta" in want.channels and want.mode != "conflate"
        if not any("*" in name for name in want.symbols):
            self._expected = len(set(want.symbols)) * len(set(want.channels))
        return self._ask(now) if self.state == "live" else []

    def refresh(self, topics: list[str], now: int) -> list[Effect]:
        """Changes of these books were lost on our side: they are to begin anew, all else goes on as it is."""
        self.whole.update(dict.fromkeys(topics))
        if self.state != "live" or now - self._refreshed < REFRESH_EVERY:
            return []  # on the next connection, or at the next call
        self._refreshed = now
        return [Say(wire.Unsubscribe(self.id)), *self._ask(now)]

    def close(self, now: int) -> list[Effect]:
        """No more; the gateway is told, so that it keeps nothing for our return."""
        bye: list[Effect] = [Say(wire.Unsubscribe(self.id))] if self.state == "live" and self.want is not None else []
        return [*bye, *self._end(0, "closed", "closed by its consumer")]

    # -- what the connection brings -------------------------------------------------------------------------------------

    def opened(self, token: str, now: int) -> list[Effect]:
        """The connection stands; `token` is as it was read for it, empty for none."""
        self._token = token
        self._heard = self._since = now
        self.state = "greeting"
        return []

    def message(self, data: bytes, now: int) -> list[Effect]:
        """One whole message of the gateway."""
        self._heard = now
        try:
            said = self._decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            return [Drop(), *self.lost(1006, f"expected a message of {wire.PROTOCOL}: {error}", now)]
        match said:
            case wire.Data():
                return self._data(said)
            case wire.Hello():
                return self._greeted(said, now)
            case wire.Authenticated():
                return self._authenticated(said, now)
            case wire.Subscribed():
                return self._subscribed(said, now)
            case wire.Unsubscribed():
                return self._end(0, "unsubscribed", said.reason) if said.id == self.id and said.reason else []
            case wire.Error():
                return self._end(0, said.reason, said.text) if said.id == self.id or self.state != "live" else []
            case wire.Bye():
                self._bye = said
                return []
            case wire.Pong():
                return []

    def heard(self, now: int) -> None:
        """Something came that is no message, or nothing could come because we did not read."""
        self._heard = now

    def failed(self, why: str, status: int, retry_after_s: float, now: int) -> list[Effect]:
        """No connection could be made. `status` is HTTP's, 0 without an answer."""
        self.why = why
        if status in FATAL_STATUS:
            return self._end(status, "refused", why)
        return self._later(retry_after_s, now)

    def lost(self, code: int, why: str, now: int) -> list[Effect]:
        """The connection ended, with this close code (1006: without one)."""
        if self.state in ("ended", "waiting"):
            return []
        bye, self._bye = self._bye, None
        reason, after = "lost", -1.0
        if bye is not None:
            code, reason, why, after = bye.code, bye.reason, bye.text, bye.retry_after_s
        self.why = f"{code} {reason}: {why}"
        if reason in RENEWABLE and self._renewable and not self._must_differ:
            self._must_differ = True  # there may be another token by now: one try, if there is
            self._refusal = (code, reason, why)
            return self._later(0.0, now)
        if not wire.come_back(code):
            return self._end(code, reason, why)
        if self._live_at and now - self._live_at >= HEALTHY:
            self._backoff.attempts = 0
        return self._later(after, now)

    def renewed(self, token: str, now: int) -> list[Effect]:
        """The token as it is now; the same again is not sent twice."""
        if token in ("", self._token) or self.state != "live":
            return []
        self._token = token
        return [Say(wire.Authenticate(token))]

    def token_for_dial(self, token: str) -> list[Effect]:
        """Read just before a dial: where the last one was refused, the same again is the end."""
        if self._must_differ and token == self._token:
            code, reason, why = self._refusal
            return self._end(code, reason, f"{why}; the token has not changed since")
        return []

    # -- time -----------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> int | None:
        """When `tick` is next due, ns."""
        timing = self.timing
        match self.state:
            case "waiting":
                return self._wait
            case "greeting" | "authenticating" | "subscribing":
                return self._since + round(timing.greet_s * SECOND)
            case "live":
                quiet = max(self._heard, self._pinged)
                due = quiet + round(
                    (timing.pong_within_s if self._pinged > self._heard else timing.ping_every_s) * SECOND
                )
                return min(due, self._renew_at) if self._renew_at else due
            case _:
                return None

    def tick(self, now: int) -> list[Effect]:
        """Is it time to dial, to ping, to give up?"""
        due = self.deadline
        if due is None or now < due:
            return []
        if self.state == "waiting":
            return self._dial(now)
        if self.state != "live":
            return [Drop(), *self.lost(1006, f"no answer within {self.timing.greet_s:g} s while {self.state}", now)]
        if self._renew_at and now >= self._renew_at:
            self._renew_at = 0
            return [Renew()]
        if self._pinged > self._heard:
            return [Drop(), *self.lost(1006, f"no pong within {self.timing.pong_within_s:g} s", now)]
        self._pinged = now
        return [Say(wire.Ping(now))]

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _dial(self, now: int) -> list[Effect]:
        self.state = "dialing"
        self._backoff.attempts += 1
        self._live_at = self._pinged = self._renew_at = 0
        return [Dial()]

    def _later(self, after_s: float, now: int) -> list[Effect]:
        self.state = "waiting"
        self._wait = now + self._backoff.wait(self._live_at > 0, after_s)
        return []

    def _end(self, code: int, reason: str, text: str) -> list[Effect]:
        if self.state == "ended":
            return []
        self.state = "ended"
        self.end = Ended(code, reason, text)
        return [Drop(), self.end]

    def _greeted(self, hello: wire.Hello, now: int) -> list[Effect]:
        if hello.protocol != wire.PROTOCOL:
            return self._end(0, "protocol", f"expected a gateway of {wire.PROTOCOL}, found {hello.protocol}")
        self.hello = hello
        if hello.token == "none":
            return self._ready(now)
        if not self._token:
            return self._end(4500, "no_token", "the gateway asks for a token: give truetape.client(…, token=…)")
        self.state, self._since = "authenticating", now
        return [Say(wire.Authenticate(self._token))]

    def _authenticated(self, who: wire.Authenticated, now: int) -> list[Effect]:
        self._must_differ = False
        if who.expires and self._renewable:
            self._renew_at = max(now + SECOND, who.expires - min(RENEW_WITHIN, (who.expires - now) // 4))
        return self._ready(now) if self.state == "authenticating" else []

    def _ready(self, now: int) -> list[Effect]:
        self._heard = now
        self.state = "live"
        return self._ask(now) if self.want is not None else []

    def _ask(self, now: int) -> list[Effect]:
        assert self.want is not None, "asked for by a consumer"
        self.id += 1
        self.state, self._since = "subscribing", now
        parts = self._parts()
        last = parts.pop() if parts else None
        before = [Say(wire.Have(self.id, part)) for part in parts]
        return [*before, Say(msgspec.structs.replace(self.want, id=self.id, resume=last))]

    def _parts(self) -> list[wire.Resume]:
        """What we have, in parts that fit into messages."""
        if not self.epoch or self.hello is None:
            return []
        room = max(1024, (self.hello.bounds.message_bytes or 65_536) // 2)
        parts = [wire.Resume(self.epoch, {}, [])]
        size = 0
        for topic, offset in self.offsets.items():
            lost = topic in self.whole
            size += (2 if lost else 1) * (len(topic.encode()) + OFFSET_BYTES)
            if size > room:
                parts.append(wire.Resume(self.epoch, {}, []))
                size = (2 if lost else 1) * (len(topic.encode()) + OFFSET_BYTES)
            parts[-1].offsets[topic] = offset
            if lost:
                parts[-1].whole.append(topic)
        return parts

    def _subscribed(self, said: wire.Subscribed, now: int) -> list[Effect]:
        if said.id != self.id or self.hello is None:
            return []
        if self._live_at == 0 and self.epoch:
            self.reconnects += 1
        self.state = "live"
        self._live_at = self._live_at or now
        same = self.epoch == self.hello.epoch
        before, self.offsets = self.offsets, {} if not same else self.offsets
        self.epoch = self.hello.epoch
        self._told.clear()
        self._unknown.clear()
        lost: list[Market] = []
        for row in said.topics:
            if row.recovered is False:  # told here and now, for the gateway's own word may be cut off
                self._told[row.topic] = None
                kind, venue, symbol = key_of(row.topic)
                count = row.offset - before.get(row.topic, 0) if same else -1  # not named: from its beginning
                lost.append(Lagged(venue, symbol, kind, count, NOT_RECOVERED))
            if row.recovered is not None:
                self.recovered += row.recovered
                self.unrecovered += not row.recovered
            if row.recovered is not True:
                self._begin(row.topic)
            if row.recovered is not True or row.topic not in self.offsets or row.offset > self.offsets[row.topic]:
                self.offsets[row.topic] = row.offset
        effects: list[Effect] = [Stand([key_of(row.topic) for row in said.topics])]
        return [*effects, Give(lost)] if lost else effects

    def _data(self, said: wire.Data) -> list[Effect]:
        if said.id != self.id:
            return []  # of the subscription before a refresh: it comes again
        new = [topic for topic in said.offsets if topic not in self.offsets]
        self.offsets.update(said.offsets)
        for topic in new:
            self._begin(topic)
        if self._changes:
            for event in said.events:
                if type(event) is Book and event.snapshot:
                    self.whole.pop(f"book_delta:{event.venue}:{event.symbol}", None)
                elif type(event) is Lagged and event.topic == "book_delta":
                    self.whole[f"book_delta:{event.venue}:{event.symbol}"] = None
        events = [event for event in said.events if not self._known(event)] if self._told else said.events
        give: list[Effect] = [Give(events)] if events else []
        if self._expected and not said.offsets:  # notices alone
            give += self._refused(events)
        return [Stand([key_of(topic) for topic in new]), *give] if new else give

    def _refused(self, events: list[Market]) -> list[Effect]:
        """The end, where the venues know none of the symbols: nothing would ever come."""
        for event in events:
            if type(event) is not Status or not event.channel:
                continue
            key = (event.channel, event.venue, event.symbol)
            self._unknown.pop(key, None)
            kind, _, _ = event.channel.partition(".")
            mine = any(f"{one}:{event.venue}:{event.symbol}" in self.offsets for one in (kind, f"{kind}_delta"))
            if mine and event.state == "CLOSED" and event.reason.partition(":")[0] == UNKNOWN:
                self._unknown[key] = None
                if len(self._unknown) >= self._expected:
                    names = ", ".join(dict.fromkeys(f"{venue}:{symbol}" for _, venue, symbol in self._unknown))
                    return self._end(
                        0, UNKNOWN, f"the venue does not know {names} ({event.reason.partition(': ')[2] or UNKNOWN}); "
                        f"`truetape symbols {event.venue}` lists what it has",
                    )  # fmt: skip
        return []

    def _known(self, event: Market) -> bool:
        """Whether this loss was told when the subscription was answered."""
        if type(event) is not Lagged or event.reason != NOT_RECOVERED:
            return False
        return self._told.pop(f"{event.topic}:{event.venue}:{event.symbol}", self) is None

    def _begin(self, topic: str) -> None:
        if self._changes and topic.startswith("book_delta:"):
            self.whole[topic] = None


def key_of(topic: str) -> tuple[str, str, str]:
    """A topic's name in its parts."""
    kind, _, rest = topic.partition(":")
    venue, _, symbol = rest.partition(":")
    return kind, venue, symbol
