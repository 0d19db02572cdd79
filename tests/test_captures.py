"""Every recorded capture of the venues that we speak, replayed, equals what an independent replayer made of it.

The captures and their golden files lie outside the repository; data/README.md there says how they are compared. What is proved here
beyond: a replay is the same whenever and wherever it is run, and a single digit is enough to change its digest.
"""

import json
import os
import re
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from conftest import ROOT
from truetape.app import capture
from truetape.app.dialects import Names, dialect
from truetape.app.report import report
from truetape.core.book.sync import BookSync
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.model.event import Book, Level, Quote

VENUES = {
    "binance_spot": "binance",
    "binance_us": "binance",
    "binance_usdm": "binance_usdm",
    "binance_coinm": "binance_usdm",
    "coinbase_adv": "coinbase",
    "coinbase_exchange": "coinbase_exchange",
    "kraken_v2": "kraken",
    "kraken_v1": "kraken_v1",
    "okx_v5": "okx",
    "okcoin_v5": "okx",
    "bybit_v5": "bybit",
}
CAPTURES = [
    "binance_coinm-10sym-2021-07-22",
    "binance_coinm-btcusd_perp-2024-08-08",
    "binance_spot-4sym-2021-10-12",
    "binance_spot-btc_eth-2026-07-07-nosnapshot",
    "binance_spot-btcusdt-2024-08-08",
    "binance_us-4sym-2021-10-12",
    "binance_usdm-4sym-2021-07-22",
    "binance_usdm-btcusdt-2023-04-04",
    "binance_usdm-btcusdt-2024-08-08",
    "bybit_v5-6sym-2026-08-09-part",
    "bybit_v5-ob1-2025-06-13",
    "coinbase_adv-btc_eth-2026-08-09-part",
    "coinbase_exchange-10sym-2021-04-17",
    "kraken_v1-10sym-2021-04-17",
    "kraken_v2-btc_eth-2026-07-07-part",
    "okcoin_v5-2023-05-27",
    "okx_v5-3sym-2022-05-13",
]
UNBRIDGED = "binance_spot-btc_eth-2026-07-07-nosnapshot"
SMALL = [
    "binance_coinm-10sym-2021-07-22",
    "binance_spot-4sym-2021-10-12",
    "binance_usdm-4sym-2021-07-22",
    "bybit_v5-6sym-2026-08-09-part",
    "coinbase_exchange-10sym-2021-04-17",
    "kraken_v1-10sym-2021-04-17",
    "kraken_v2-btc_eth-2026-07-07-part",
    "okx_v5-3sym-2022-05-13",
]
"""At least one of each venue but Coinbase's, whose snapshots are of megabytes: replayed again and again."""
QUOTED = [name for name in CAPTURES if name.startswith("binance") and name != UNBRIDGED]
LEVELS = 10

Best: TypeAlias = tuple[Level, Level]
"""Best bid and best ask."""


def place(folder: Path, name: str) -> Path:
    path = folder / f"{name}.jsonl.gz"
    assert path.is_file(), f"no capture {path}"
    return path


def golden(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.golden.json").read_text())


def observed(path: Path, lines: Iterator[capture.Line] | None = None) -> dict[str, Any]:
    """The whole answer of a replay."""
    observer = capture.Observer(capture.find_venue(path))
    for line in lines if lines is not None else capture.lines(path):
        observer.feed(line)
    counts = {"records": observer.records, "frames": observer.frames, "errors": observer.undecodable}
    return report(observer.pump, **counts, levels=LEVELS)


@cache
def replayed(path: Path) -> dict[str, Any]:
    return observed(path)


def near(found: float, wanted: object) -> bool:
    return found == pytest.approx(float(str(wanted)), rel=1e-9, abs=0.0)


def same_side(found: list[tuple[float, float]], wanted: list[list[str]]) -> bool:
    return len(found) == len(wanted) and all(
        near(ours[0], theirs[0]) and near(ours[1], theirs[1]) for ours, theirs in zip(found, wanted, strict=True)
    )


def at(rows: dict[str, Any], key: str) -> Any:
    """The golden file always names the connection; we do where the symbol came on more than one."""
    return rows.get(key, rows.get(key.rpartition("|")[2]))


def book_complaints(ours: dict[str, Any], wanted: Any) -> list[str]:
    complaints = [
        f"{side} {ours[side][:3]} expected {wanted['final'][side][:3]}"
        for side in ("bids", "asks")
        if not same_side(ours[side], wanted["final"][side])
    ]
    if ours["state"] != "LIVE":
        complaints.append(f"{ours['state']}: {ours['reason']}")
    counts = wanted["counts"]
    if ours["checksums_failed"] or ours["checksums_ok"] < counts.get("checksum_ok", 0):
        failed = f"{ours['checksums_failed']} failed"
        complaints.append(f"checksums {ours['checksums_ok']} ok, {failed}, expected {counts.get('checksum_ok', 0)} ok")
    if ours["sequence_gaps"] > counts.get("gaps", 0):
        complaints.append(f"{ours['sequence_gaps']} gaps, expected {counts.get('gaps', 0)}")
    return complaints


def trade_complaints(ours: dict[str, Any], wanted: Any) -> list[str]:
    return [
        f"{field} {ours[field]} expected {wanted[field]}"
        for field in ("n", "base", "quote", "buy", "sell")
        if not near(ours[field], wanted[field])
    ]


def differences(found: dict[str, Any], wanted: Any, *, bridged: bool) -> list[str]:
    rows: list[str] = []
    for key, theirs in wanted["books"].items() if bridged else ():
        ours = at(found["books"], key)
        rows += [f"book {key}: {text}" for text in (["none"] if ours is None else book_complaints(ours, theirs))]
    for key, theirs in wanted["trades"].items():
        ours = at(found["trades"], key)
        rows += [f"trades {key}: {text}" for text in (["none"] if ours is None else trade_complaints(ours, theirs))]
    return rows


@pytest.mark.parametrize("name", CAPTURES)
def test_a_replay_equals_its_golden_file(shared_data: Path, name: str) -> None:
    found, wanted = replayed(place(shared_data, name)), golden(shared_data, name)
    assert differences(found, wanted, bridged=name != UNBRIDGED) == []
    assert found["errors"] == 0
    if not wanted["totals"].get("gaps", 0):
        assert found["gaps"] == []
    assert len(found["books"]) == len(wanted["books"])
    assert len(found["trades"]) == len(wanted["trades"])


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_is_known_by_its_urls(shared_data: Path, name: str) -> None:
    assert capture.find_venue(place(shared_data, name)) == VENUES[name.partition("-")[0]]


def test_no_capture_of_these_venues_is_left_out(shared_data: Path) -> None:
    there = [path.name.removesuffix(".jsonl.gz") for path in shared_data.glob("*-*.jsonl.gz")]
    assert sorted(name for name in there if name.partition("-")[0] in VENUES) == CAPTURES


def test_books_that_nothing_bridges_are_never_live(shared_data: Path) -> None:
    found = replayed(place(shared_data, UNBRIDGED))
    assert sorted(found["books"]) == ["BTCUSDT", "ETHUSDT"]
    for book in found["books"].values():
        assert book["state"] not in ("LIVE", "QUIET", "STALE")
        assert (book["bids"], book["asks"], book["n_bids"], book["n_asks"]) == ([], [], 0, 0)
        assert book["reason"]


def test_a_symbol_on_two_connections_has_two_books(shared_data: Path) -> None:
    """`orderbook.200.BTCUSDT` came from Bybit's linear and from its spot address: two markets, one name."""
    found = replayed(place(shared_data, "bybit_v5-6sym-2026-08-09-part"))
    assert [key for key in found["books"] if "BTCUSDT" in key] == ["ws2|BTCUSDT", "ws3|BTCUSDT"]
    assert [key for key in found["books"] if "SOL" in key] == ["SOLUSDT"]


@pytest.mark.parametrize("name", QUOTED)
def test_the_best_prices_equal_the_venues_own_at_the_same_update(shared_data: Path, name: str) -> None:
    """bookTicker carries an update id: the last of those within a change tells the best prices after that change.

    The change that bridges the REST snapshot is not asked: the snapshot may have been taken in the middle of it.
    """
    path = place(shared_data, name)
    observer = capture.Observer(capture.find_venue(path))
    box = Mailbox("witness", drop_oldest, 10_000)
    observer.pump.router.subscribe(box, [("quote", "*", "*"), ("book_delta", "*", "*")])
    quotes: dict[str, dict[int, Best]] = {}
    tops: dict[str, list[tuple[int, int, Best]]] = {}
    bridging: set[str] = set()
    for line in capture.lines(path):
        observer.feed(line)
        for event in box.take(10_000, line.t):
            if isinstance(event, Quote):
                quotes.setdefault(event.raw, {})[event.seq] = ((event.bid, event.bid_size), (event.ask, event.ask_size))
            elif isinstance(event, Book) and event.snapshot:
                bridging.add(event.raw)
            elif isinstance(event, Book):
                book = book_of(observer, event.raw)
                if event.seq == book.seq and event.raw not in bridging:  # the last that one frame let through
                    best = (book.book.bids(1)[0], book.book.asks(1)[0])
                    tops.setdefault(event.raw, []).append((event.first, event.seq, best))
                bridging.discard(event.raw)
    wanted = {key.rpartition(" ")[2]: row for key, row in golden(shared_data, name)["evidence"].items()}
    for raw, row in wanted.items():
        numbers = sorted(quotes[raw])
        found = [
            quotes[raw][numbers[at]] == best
            for first, last, best in tops[raw]
            if (at := bisect_right(numbers, last) - 1) >= 0 and numbers[at] >= first
        ]
        assert found.count(True) >= row["match"], raw
        assert found.count(False) == row.get("differ", 0), raw


def book_of(observer: capture.Observer, raw: str) -> BookSync:
    streams = [link.streams.get(("book", raw)) for link in observer.pump.links.values()]
    return next(stream.sync for stream in streams if stream is not None and stream.sync is not None)


# The same answer, always and everywhere


def digests(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: observed(place(folder, name))["digest"] for name in names}


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_the_digest_does_not_depend_on_the_process(shared_data: Path, seed: str) -> None:
    here = {name: replayed(place(shared_data, name))["digest"] for name in SMALL}
    code = "import json, sys; from pathlib import Path; import test_captures; " + (
        "print(json.dumps(test_captures.digests(Path(sys.argv[1]), sys.argv[2:])))"
    )
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"}
    arguments = [sys.executable, "-c", code, str(shared_data), *SMALL]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == here


@pytest.mark.parametrize("name", SMALL)
def test_the_digest_is_the_same_twice(shared_data: Path, name: str) -> None:
    path = place(shared_data, name)
    assert observed(path)["digest"] == replayed(path)["digest"]


def bumped(text: str) -> Iterator[str]:
    """The frame with the last digit of one of its numbers changed, for each of its decimal numbers."""
    for match in re.finditer(r"\d+\.\d+", text):
        digit = str((int(text[match.end() - 1]) + 1) % 10)
        yield text[: match.end() - 1] + digit + text[match.end() :]


def with_one_price_changed(path: Path, venue: str) -> list[capture.Line]:
    """The capture with a single digit changed, in the first frame past the middle where it changes what is said of the market."""
    lines = list(capture.lines(path))
    for index in range(len(lines) // 2, len(lines)):
        line = lines[index]
        kind = dialect(venue)
        if line.dir != "in" or line.data is None:
            continue
        before = kind("x", Names(kind, line.url), line.url).decode(line.data.encode(), line.t)
        for text in bumped(line.data):
            after = kind("x", Names(kind, line.url), line.url).decode(text.encode(), line.t)
            if after != before and before:
                lines[index] = capture.Line(line.t, line.dir, line.conn, line.url, text)
                return lines
    raise AssertionError(f"{path}: no frame with a number past the middle")


@pytest.mark.parametrize("name", SMALL)
def test_one_digit_changes_the_digest(shared_data: Path, name: str) -> None:
    path = place(shared_data, name)
    changed = observed(path, iter(with_one_price_changed(path, VENUES[name.partition("-")[0]])))
    assert changed["digest"] != replayed(path)["digest"]


# The examples that venues publish


MARKS = {
    "kraken_v2": ("kraken", lambda price, size: digits(price) + digits(size)),
    "kraken_v1": ("kraken_v1", lambda price, size: digits(price) + digits(size)),
    "okx_v5": ("okx", lambda price, size: f"{price}:{size}"),
}


def digits(text: str) -> str:
    """As docs.kraken.com has it: without the point and without leading zeros."""
    return text.replace(".", "").lstrip("0")


@pytest.mark.parametrize("example", sorted(MARKS))
def test_a_published_checksum_holds(shared_data: Path, example: str) -> None:
    rows = json.loads((shared_data / "checksum_examples.json").read_text())
    row = next(row for row in rows if row["venue"] == example)
    venue, mark = MARKS[example]
    rule = dialect(venue).rule
    assert rule.checksum is not None
    bids, asks = ([mark(price, size) for price, size in row[side]] for side in ("bids", "asks"))
    assert rule.checksum(bids[: rule.checksum_depth], asks[: rule.checksum_depth]) == row["published"]
