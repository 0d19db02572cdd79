"""Drift through the pump: a number that changes its type puts its streams in doubt; new keys are quarantined and cost nothing."""

import msgspec

from truetape.app.config import parse
from truetape.app.report import report
from truetape.app.symbols import resolve_all
from truetape.core.route.link import SAMPLE_EVERY
from truetape.core.route.pump import Pump

BEGIN = 1_700_000_000_000_000_000
FEED = {"venue": "tickdb", "symbols": ["BTC-USDT"], "channels": ["book"], "url": "ws://127.0.0.1:1"}


def frame(bid: object, **more: object) -> bytes:
    data = {"symbol": "BTCUSDT", "bids": [[bid, "1"]], "asks": [["11", "1"]], "timestamp": 1_700_000_000_000}
    return msgspec.json.encode({"cmd": "depth", "data": data | more})


def play(frames: list[bytes]) -> Pump:
    pump = Pump(resolve_all(parse({"feeds": [FEED]}, "test", {})), now=BEGIN)
    pump.start(BEGIN)
    pump.opened("tickdb-1", BEGIN)
    for n, data in enumerate(frames):
        pump.frame("tickdb-1", data, BEGIN + n * 1_000_000)
    return pump


def test_a_price_that_becomes_a_number_is_told_within_a_sample() -> None:
    pump = play([frame("10")] + [frame(10.0)] * (SAMPLE_EVERY + 2))
    assert [gap.reason.partition(":")[0] for gap in pump.gaps if not gap.recovered] == ["drift"]
    assert pump.links["tickdb-1"].streams["book", "BTCUSDT"].state == "LIVE"  # a whole book that came later healed it


def test_steady_frames_are_never_suspected() -> None:
    assert not play([frame("10")] * (3 * SAMPLE_EVERY)).gaps


def test_a_new_key_is_quarantined_and_the_book_goes_on() -> None:
    pump = play([frame("10")] + [frame("10", surprise=1)] * (SAMPLE_EVERY + 2))
    assert not pump.gaps
    tree = report(pump, records=0, frames=0, errors=0, levels=1)
    assert "surprise" in str(tree["quarantined"])
