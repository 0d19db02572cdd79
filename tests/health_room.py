"""A pump with one Kraken connection and a clock of its own: what a silence does, told without waiting for one."""

from typing import Any

import msgspec

from truetape.app.dialects import Names, dialect
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.pump import Pump
from truetape.core.route.router import Router
from truetape.model.effect import Effect
from truetape.model.event import Gap, Status

S = 1_000_000_000
T0 = 1_700_000_000 * S
TIME = "2023-11-14T22:13:20.000000Z"
CALM = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0)


class Room:
    """A pump with one Kraken connection, driven by its deadlines, and all that a consumer of everything is told."""

    def __init__(self, *wants: Want, timing: Timing = CALM, market: str = "") -> None:
        kind = dialect("kraken")
        self.router = Router()
        self.box = Mailbox("all", drop_oldest, 100_000)
        self.router.subscribe(self.box, [("trade", "*", "*"), ("book_delta", "*", "*")])
        feed = Feed("k", "kraken", "kraken", kind, "ws://k", "", wants, Names(kind, "ws://k"), timing, market=market)
        self.pump = Pump([feed], router=self.router, now=T0)
        self.now = T0
        self.pump.start(T0)

    def open(self) -> "Room":
        self.pump.opened("k-1", self.now)
        self.told()
        return self

    def until(self, seconds: float) -> list[Effect]:
        """Let time pass; returns what was asked of the world."""
        end = T0 + round(seconds * S)
        effects: list[Effect] = []
        while (due := self.pump.deadline) is not None and due <= end:
            self.now = due
            effects += self.pump.tick(self.now)
        self.now = end
        return effects

    def told(self) -> list[Any]:
        self.router.flush(self.now)
        return [event for event in self.box.take(100_000, self.now) if isinstance(event, Gap | Status)]

    def statuses(self) -> list[tuple[float, str, str]]:
        return [
            ((e.recv - T0) / S, e.state, e.reason) for e in self.told() if isinstance(e, Status) and e.channel != ""
        ]

    def gaps(self) -> list[tuple[str, float, float, str, bool]]:
        return [
            (gap.channel, (gap.from_ts - T0) / S, (gap.to_ts - T0) / S, gap.reason, gap.recovered)
            for gap in self.pump.gaps
        ]

    def frame(self, data: bytes) -> None:
        self.pump.frame("k-1", data, self.now)

    def trade(self, number: int = 1, raw: str = "BTC/USD") -> None:
        row = {"symbol": raw, "side": "buy", "price": 1.5, "qty": 1.0, "trade_id": number, "timestamp": TIME}
        self.frame(msgspec.json.encode({"channel": "trade", "type": "update", "data": [row]}))

    def book(self, kind: str = "snapshot", more: str = "") -> None:
        self.frame(
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{{"price":1.0,"qty":1.0}}],'
            f'"asks":[{{"price":2.0,"qty":1.0}}]{more}}}]}}'.encode()
        )

    def accept(self, channel: str = "trade") -> None:
        self.frame(
            b'{"method":"subscribe","success":true,"result":{"channel":"%s","symbol":"BTC/USD"}}' % channel.encode()
        )


TICKER = Want("ticker", "BTC/USD", "BTC-USD")
TRADE = Want("trade", "BTC/USD", "BTC-USD")
BOOK = Want("book", "BTC/USD", "BTC-USD", 10)
