"""Ours, offline: the book frames of four captures through the whole pump, as cryptofeed's handlers get them."""

import gc
import json
import os
import statistics
import time
from pathlib import Path

from truetape.app.capture import Line, Observer, lines

CAPTURES = {
    "binance_usdm": "binance_usdm-btcusdt-2024-08-08",
    "binance_usdm_4sym": "binance_usdm-4sym-2021-07-22",
    "kraken_v1": "kraken_v1-10sym-2021-04-17",
    "okx_v5": "okx_v5-3sym-2022-05-13",
}
VENUES = {"binance_usdm_4sym": "binance_usdm", "okx_v5": "okx"}
PASSES_S = 1.0


def is_book(line: Line) -> bool:
    """A book message, by the text that only book messages have."""
    text = line.data or ""
    return "depthUpdate" in text or '"book-' in text or ('"channel":"books"' in text and '"event"' not in text)


def load(name: str) -> list[Line]:
    """The connection, the snapshots and the book frames of one capture."""
    path = Path(os.environ.get("TRUETAPE_SHARED", "../shared")) / "data" / f"{name}.jsonl.gz"
    return [line for line in lines(path) if line.dir in ("open", "http") or (line.dir == "in" and is_book(line))]


def once(venue: str, rows: list[Line]) -> tuple[float, int]:
    """One pass with a fresh pump: CPU seconds, and how many books are LIVE at its end."""
    observer = Observer(venue, flow=False)
    ready = [(line, line.payload()) for line in rows]
    pump = observer.pump
    began = time.process_time()
    for line, data in ready:
        if line.dir == "in":
            pump.frame(line.conn, data, line.t)
        else:
            observer.feed(line)
    spent = time.process_time() - began
    return spent, sum(stream.state == "LIVE" for link in pump.links.values() for stream in link.book_streams())


def main() -> None:
    """Median of passes that take a second together, three at least."""
    result = {}
    for key, name in CAPTURES.items():
        rows = load(name)
        gc.collect()
        gc.freeze()  # as the gateway does when it starts
        books = sum(line.dir == "in" for line in rows)
        spent: list[float] = []
        while len(spent) < 3 or sum(spent) < PASSES_S:
            seconds, live = once(VENUES.get(key, key), rows)
            assert live, f"{name}: expected books to be LIVE at the end, found none"
            spent.append(seconds)
        result[key] = {"us_per_message": round(statistics.median(spent) / books * 1e6, 3), "messages": books}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
