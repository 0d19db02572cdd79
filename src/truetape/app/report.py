"""What a replay found, as the JSON of CONTRACTS.md: books, trades, gaps, events, digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from truetape.core.feed.health import Stream
from truetape.core.route.pump import Pump
from truetape.model.event import Gap


def _keys(pump: Pump, channel: str) -> list[tuple[str, Stream]]:
    """Streams of one channel with their report keys: the venue's spelling, with the connection or venue where that is ambiguous."""
    streams = [(link, s) for link in pump.links.values() for s in link.streams.values() if s.channel == channel]
    venues = {link.label for link in pump.links.values()}
    seen = Counter((link.label, s.raw) for link, s in streams)
    rows = []
    for link, stream in streams:
        key = f"{link.label}:{stream.raw}" if len(venues) > 1 else stream.raw
        rows.append((f"{link.source}|{key}" if seen[link.label, stream.raw] > 1 else key, stream))
    return sorted(rows, key=lambda row: row[0])


def _book(stream: Stream, levels: int) -> dict[str, Any]:
    sync = stream.sync
    assert sync is not None, "book streams have a sync"
    live = sync.live and stream.state == "LIVE"
    n_bids, n_asks = sync.book.counts if live else (0, 0)
    return {
        "state": stream.state,
        "evidence": sync.evidence,
        "reason": stream.reason
        if stream.state == sync.state and stream.state != "SYNCING"
        else sync.reason or stream.reason,
        "bids": sync.book.bids(levels) if live and levels else [],
        "asks": sync.book.asks(levels) if live and levels else [],
        "n_bids": n_bids,
        "n_asks": n_asks,
        "checksums_ok": sync.counts.checksums_ok,
        "checksums_failed": sync.counts.checksums_failed,
        "sequence_gaps": sync.counts.sequence_gaps,
        "resyncs": sync.counts.resyncs,
    }


def gaps(found: Iterable[Gap]) -> list[dict[str, Any]]:
    """Gaps merged with what became of them: one row each, `recovered` as it was at the end."""
    rows: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    for gap in found:
        numbered = gap.from_seq >= 0
        rows[gap.venue, gap.raw, gap.channel, gap.from_ts] = {
            "venue": gap.venue,
            "symbol": gap.symbol,
            "channel": gap.channel,
            "from": gap.from_seq if numbered else gap.from_ts,
            "to": gap.to_seq if numbered else gap.to_ts,
            "unit": "seq" if numbered else "ns",
            "reason": gap.reason,
            "recovered": gap.recovered,
            "healed": gap.healed,
        }
    return list(rows.values())


def report(pump: Pump, *, records: int, frames: int, errors: int, levels: int) -> dict[str, Any]:
    """The whole answer of `truetape replay --json`."""
    counts = [link.counts for link in pump.links.values()]
    quarantined: dict[str, Any] = {}
    for link in pump.links.values():
        for name, entry in link.drift.report().items():
            quarantined.setdefault(name, {})[link.source] = entry
    damaged = sum(count.damaged for count in counts)
    if damaged:
        quarantined["damaged"] = damaged
    return {
        "records": records,
        "frames": frames,
        "errors": errors + sum(count.errors for count in counts),
        "ignored": sum(count.ignored for count in counts),
        "events": pump.digest.counts(),
        "books": {key: _book(stream, levels) for key, stream in _keys(pump, "book")},
        "trades": {
            key: {"n": f.n, "base": f.base, "quote": f.quote, "buy": f.buy, "sell": f.sell}
            for key, stream in _keys(pump, "trade")
            if (f := stream.flow) is not None
        },
        "gaps": gaps(pump.gaps),
        "quarantined": quarantined,
        "digest": pump.digest.value(),
    }
