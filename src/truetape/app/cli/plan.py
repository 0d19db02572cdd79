"""`truetape plan`: the connections that a configuration needs, before anything is dialed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from truetape.app.cli.page import page
from truetape.app.config import load
from truetape.app.rates import Rates, of_feed, read
from truetape.app.secrets import redact
from truetape.app.symbols import resolve_all
from truetape.core.feed.plan import Feed, allowed, subscriptions
from truetape.core.feed.second import lines

LIMITS = {
    "connections": "connections",
    "subscriptions": "subscriptions on each",
    "symbols": "symbols on each",
    "total": "subscriptions in all",
}


def plan(path: Path, rates: Path | None, save: Path | None, as_json: bool) -> int:
    """0 with the layout; what does not fit is a ConfigError, and so 2."""
    config = load(path)
    measured = read(rates) if rates is not None else None
    feeds = resolve_all(config, measured=measured)
    rows = [
        layout(feed, measured if measured is not None else read(Path(named.rates)) if named.rates else {})
        for feed, named in zip(feeds, config.feeds, strict=True)
    ]
    if save is not None:
        save.write_bytes(msgspec.json.format(msgspec.json.encode({"rates": _rounded(measured or {})})) + b"\n")
        print(f"truetape: {len(measured or {})} rates written to {save}", file=sys.stderr)
    if as_json:
        print(
            msgspec.json.encode({"feeds": rows, "connections": sum(len(row["connections"]) for row in rows)}).decode()
        )
    else:
        for row in rows:
            _print(row)
    return 0


def _rounded(rates: Rates) -> dict[str, float]:
    return {name: round(rate, 4) for name, rate in sorted(rates.items())}


def _room(*limits: tuple[int, int]) -> int | None:
    """What is left of the tightest limit of (limit, used); None without any."""
    return min((limit - used for limit, used in limits if limit), default=None)


def layout(feed: Feed, measured: Rates) -> dict[str, Any]:
    """One feed as a tree: its limits with their sources, and its connections.

    `share` is of the expected rate; what was not measured counts as the median, and where nothing was, all count alike.
    """
    limits = allowed(feed)
    rates = of_feed(measured, feed)
    held = subscriptions(feed.dialect, feed.wants)
    usual = sorted(rates.values())[len(rates) // 2] if rates else 1.0
    parts: list[dict[str, Any]] = []
    for name, endpoint in lines(feed):
        symbols = list(dict.fromkeys(want.symbol for want in endpoint.wants))
        count = subscriptions(feed.dialect, endpoint.wants)
        parts.append(
            {
                "name": name,
                "address": redact(endpoint.url.replace("{secret}", "***")),
                "symbols": symbols,
                "subscriptions": count,
                "rate": sum(rates.get((want.channel, want.raw), usual) for want in endpoint.wants),
                "room": {
                    "subscriptions": _room((limits.subscriptions, count), (limits.total, held)),
                    "symbols": limits.symbols - len(symbols),
                },
            }
        )
    whole = sum(part["rate"] for part in parts) / feed.lines or 1.0  # both lines carry all of it
    for part in parts:
        part["share"] = round(part["rate"] / whole, 4)
        part["rate"] = round(part["rate"], 3) if rates else None
    return {
        "feed": feed.name,
        "venue": feed.label,
        "plan": feed.plan or None,
        "limits": {key: {"value": getattr(limits, key) or None, "from": limits.sources[key]} for key in LIMITS},
        "subscriptions": held,
        "rates_known": len(rates),
        "connections": parts,
    }


def _print(row: dict[str, Any]) -> None:
    out = page()
    out.print(
        f"{row['feed']} ({row['venue']}{', plan ' + row['plan'] if row['plan'] else ''}): {row['subscriptions']:,} subscriptions"
    )
    for key, text in LIMITS.items():
        limit = row["limits"][key]
        if limit["value"]:
            out.print(f"  at most {limit['value']:,} {text} ({limit['from']})")
    if not row["limits"]["connections"]["value"]:
        out.print("  no limit of connections is known")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("connection", "symbols", "subscr.", "share", "msg/s", "room", "address", "first … last symbol"):
        table.add_column(head, justify="right" if head in ("symbols", "subscr.", "share", "msg/s", "room") else "left")
    for part in row["connections"]:
        names, room = part["symbols"], part["room"]
        table.add_row(
            part["name"], f"{len(names):,}", f"{part['subscriptions']:,}", f"{part['share']:.1%}",
            "–" if part["rate"] is None else f"{part['rate']:,.1f}",
            f"{room['symbols']:,} symbols" if room["subscriptions"] is None else f"{room['subscriptions']:,} subscr.",
            part["address"].partition("?")[0], names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}",
        )  # fmt: skip
    out.print(table)
    if not row["rates_known"]:
        out.print("  no rates are known: all symbols count alike; --rates TAPE measures them")
    out.print()
