"""Real captures played as two lines, with losses and delays of their own: what is merged equals the golden file of the undisturbed one."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.test_captures import at, book_complaints, golden, place, trade_complaints
from truetape.app import capture
from truetape.app.dialects import Names, dialect
from truetape.app.report import report
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route.pump import Pump
from truetape.model.effect import Fetch

MS = 1_000_000
CALM = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0)
NUMBERED = [
    "binance_spot-4sym-2021-10-12",
    "binance_usdm-4sym-2021-07-22",
    "binance_coinm-10sym-2021-07-22",
    "binance_spot-btcusdt-2024-08-08",
    "binance_us-4sym-2021-10-12",
]
BY_CHECKSUM = ["kraken_v1-10sym-2021-04-17", "kraken_v2-btc_eth-2026-07-07-part", "coinbase_exchange-10sym-2021-04-17"]


def wanted(path: Path, venue: str) -> tuple[Want, ...]:
    """What the capture carries, as subscriptions."""
    observer = capture.Observer(venue)
    for line in capture.lines(path):
        observer.feed(line)
    return tuple(stream.want for link in observer.pump.links.values() for stream in link.streams.values())


class Play:
    """A capture on two lines of one connection: each message reaches each line late by its own delay, or never."""

    def __init__(self, path: Path, seed: int, loss: float, delay_ms: float, killed: float = 2.0) -> None:
        venue = capture.find_venue(path)
        kind = dialect(venue)
        lines = list(capture.lines(path))
        self.random = Random(seed)
        self.loss, self.delay = loss, delay_ms * MS
        self.end = lines[-1].t
        self.kill_at = lines[0].t + round((self.end - lines[0].t) * killed)
        names = Names(kind, kind.url)
        url = next(line.url for line in lines if line.url.startswith("ws"))
        feed = Feed("f", kind.name, venue, kind, url, kind.rest_url, wanted(path, venue), names, CALM, lines=2)
        self.lost = [0, 0]
        self.sent = 0
        self.pump = Pump([feed], now=lines[0].t, flow=True)
        self.pump.start(lines[0].t)
        for source in ("f-1", "f-1b"):
            self.pump.opened(source, lines[0].t)
        self.asked: dict[str, None] = {}
        for now, number, line in self.schedule(lines, kind):
            if now >= self.kill_at and self.pump.links["f-1"].session.state == "OPEN":  # type: ignore[union-attr]
                self.pump.lost("f-1", "killed", now)
            self.step(now, number, line, kind)

    def schedule(self, lines: list[capture.Line], kind: Any) -> Iterator[tuple[int, int, capture.Line]]:
        queue: list[tuple[int, int, int, capture.Line]] = []
        last = [0, 0]
        for order, line in enumerate(lines):
            if line.dir == "in":
                self.sent += 1
                for number in (0, 1):
                    if self.random.random() < self.loss:
                        self.lost[number] += 1
                        continue
                    last[number] = max(last[number], line.t + round(self.random.random() * self.delay))
                    heapq.heappush(queue, (last[number], order, number, line))
            elif line.dir == "http":
                heapq.heappush(queue, (line.t, order, -1, line))
        while queue:
            now, _, number, line = heapq.heappop(queue)
            yield now, number, line

    def step(self, now: int, number: int, line: capture.Line, kind: Any) -> None:
        while (due := self.pump.deadline) is not None and due <= now:
            self.did(self.pump.tick(due))
        if number < 0:
            raw = kind.snapshot_raw(line.url)
            if raw is not None:
                self.pump.fetched("f-1", f"depth:{raw}", 200, (line.data or "").encode(), now)
        elif not (number == 0 and now >= self.kill_at):
            self.did(self.pump.frame("f-1" if number == 0 else "f-1b", line.payload(), now))

    def did(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Fetch):
                self.asked[effect.url] = None

    def report(self) -> dict[str, Any]:
        counts = {"records": 0, "frames": 0, "errors": 0}
        return report(self.pump, **counts, levels=10)


def differences(found: dict[str, Any], wanted: Any, *, trades: bool = True) -> list[str]:
    rows: list[str] = []
    for key, theirs in wanted["books"].items():
        rows += [
            f"book {key}: {text}"
            for text in book_complaints(at(found["books"], key), theirs)
            if "checksums" not in text
        ]
    for key, theirs in wanted["trades"].items() if trades else ():
        rows += [f"trades {key}: {text}" for text in trade_complaints(at(found["trades"], key), theirs)]
    return rows


@pytest.mark.parametrize("name", NUMBERED)
def test_two_lines_without_loss_are_one(shared_data: Path, name: str) -> None:
    play = Play(place(shared_data, name), seed=1, loss=0, delay_ms=40)
    assert differences(play.report(), golden(shared_data, name)) == []
