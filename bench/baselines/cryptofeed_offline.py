"""cryptofeed 2.4.1 fed offline with the shared captures: microseconds of CPU per book message.

Runs in an environment of its own (bench/build/cryptofeed-venv, made by `python -m bench build`), never in ours, and
therefore imports nothing of ours. Only the book frames and the REST snapshots are fed, all loaded into memory first;
the callback is empty; the book is cryptofeed's own (`order_book`); every other setting is cryptofeed's default.
Prints one JSON line: {"venue": {"us_per_message", "messages", "passes", "books"}}.
"""

import argparse
import asyncio
import gzip
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptofeed.defines import L2_BOOK
from cryptofeed.exchange import Exchange
from cryptofeed.exchanges import OKX, BinanceFutures, Kraken
from cryptofeed.symbols import Symbol, Symbols

CAPTURES: dict[str, tuple[type, str]] = {
    "binance_usdm": (BinanceFutures, "binance_usdm-btcusdt-2024-08-08"),
    "binance_usdm_4sym": (BinanceFutures, "binance_usdm-4sym-2021-07-22"),
    "kraken_v1": (Kraken, "kraken_v1-10sym-2021-04-17"),
    "okx_v5": (OKX, "okx_v5-3sym-2022-05-13"),
}
LONG_ENOUGH_S = 1.0  # passes over a capture go on until they took this much CPU together


def records(name: str, shared: Path) -> list[dict[str, Any]]:
    """The lines of a capture, in order."""
    with gzip.open(shared / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def is_book(venue: str, text: str) -> bool:
    """Whether a received frame belongs to the book channel."""
    if venue.startswith("binance"):
        return '"e":"depthUpdate"' in text
    if venue == "kraken_v1":
        return text.startswith("[") and '"book-' in text
    return '"channel":"books"' in text and '"action"' in text


def mapping(venue: str, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Normalised symbol -> the venue's own, from the capture's REST records where they hold it."""
    if venue == "binance_usdm":
        return {Symbol("BTC", "USDT", type="perpetual").normalized: "BTCUSDT"}
    bodies = [json.loads(row["data"]) for row in rows if row["dir"] == "http" and "/depth" not in row["url"]]
    if venue == "binance_usdm_4sym":
        return dict(BinanceFutures._parse_symbol_data(bodies[0])[0])
    if venue == "kraken_v1":
        return dict(Kraken._parse_symbol_data(bodies[0])[0])
    return dict(OKX._parse_symbol_data(bodies)[0])


class RecordedRest:
    """Stands in for the HTTP connection: it answers with the recorded snapshot of the symbol asked for."""

    def __init__(self, bodies: dict[str, str]) -> None:
        self.bodies = bodies

    async def read(self, url: str, **_: Any) -> str:
        """The recorded body of that symbol, whatever depth was asked."""
        return self.bodies[symbol_of(url)]


def symbol_of(url: str) -> str:
    """The symbol in the query of a depth request."""
    return parse_qs(urlsplit(url).query)["symbol"][0]


def feeds(venue: str, shared: Path) -> tuple[Callable[[], Exchange], list[tuple[str, float]]]:
    """A maker of fresh feeds for one capture, and its book frames with their receive times in seconds."""
    kind, name = CAPTURES[venue]
    rows = records(name, shared)
    frames = [(r["data"], r["t"] / 1e9) for r in rows if r["dir"] == "in" and is_book(venue, r["data"])]
    snapshots = {symbol_of(r["url"]): r["data"] for r in rows if r["dir"] == "http" and "/depth" in r["url"]}
    symbols = mapping(venue, rows)
    Symbols.set(kind.id, symbols, {"instrument_type": {}})
    seen = " ".join(text for text, _ in frames)
    wanted = [norm for norm, own in symbols.items() if f'"{own}"' in seen]

    async def nothing(book: object, receipt: float) -> None:
        """The empty callback."""

    def fresh() -> Exchange:
        feed = kind(symbols=wanted, channels=[L2_BOOK], callbacks={L2_BOOK: nothing})
        feed.http_conn = RecordedRest(snapshots)
        return feed

    return fresh, frames


async def one_pass(handler: Callable[..., Awaitable[None]], frames: list[tuple[str, float]]) -> float:
    """CPU seconds of feeding every frame to one handler."""
    started = time.process_time()
    for text, receipt in frames:
        await handler(text, None, receipt)
    return time.process_time() - started


class Complaints(logging.Handler):
    """Counts warnings: a reset book would make a cheap and worthless pass."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what was complained about."""
        self.seen.append(record.getMessage())


def measure(venue: str, shared: Path) -> dict[str, float]:
    """The median pass over one capture."""
    complaints = Complaints()
    logging.getLogger("feedhandler").addHandler(complaints)
    fresh, frames = feeds(venue, shared)
    passes: list[float] = []
    while sum(passes) < LONG_ENOUGH_S or len(passes) < 3:
        feed = fresh()
        passes.append(asyncio.run(one_pass(feed.message_handler, frames)))
    if complaints.seen:
        raise SystemExit(f"{venue}: cryptofeed complained {len(complaints.seen)} times: {complaints.seen[0]}")
    return {
        "us_per_message": round(statistics.median(passes) / len(frames) * 1e6, 3),
        "messages": len(frames),
        "passes": len(passes),
        "books": len(feed._l2_book),
    }


def main() -> None:
    """Measure the captures asked for; one JSON line on stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("venues", nargs="*", default=list(CAPTURES), metavar="VENUE", help=" ".join(CAPTURES))
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TRUETAPE_SHARED", "../shared")))
    options = parser.parse_args()
    unknown = [venue for venue in options.venues if venue not in CAPTURES]
    if unknown:
        parser.error(f"unknown captures: {unknown}")
    json.dump({venue: measure(venue, options.shared) for venue in options.venues}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
