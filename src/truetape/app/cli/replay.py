"""`truetape replay`: the report as JSON, or as a page for a person."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from truetape.app.cli.page import figure, page
from truetape.app.replay import replay as play


@contextmanager
def bar(what: str) -> Iterator[Callable[[float, int], None] | None]:
    """A progress bar on stderr where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0, records=0)
        yield lambda share, records: progress.update(task, completed=share, records=records)


def replay(path: Path, venue: str, books: int, speed: str, start: str, end: str, as_json: bool) -> int:
    """Exit code 0; wrong input raises BadInput."""
    with bar(f"replaying {path.name}") as progress:
        tree = play(path, venue=venue, levels=books, speed=speed, start=start, end=end, progress=progress)
    warn(tree)
    if as_json:
        print(msgspec.json.encode(tree).decode())
    else:
        _page(tree)
    return 0


def serve(path: Path, venue: str, speed: str, start: str, end: str, port: int, again: bool) -> int:
    """Play it for clients; the first line of stdout says where they connect. Exit code 0 at its end or after SIGTERM, 130 after Ctrl-C."""
    from truetape.app.tape_server import serve as served

    def announce(row: dict[str, Any]) -> None:
        print(msgspec.json.encode(row).decode(), flush=True)
        print(f"truetape: {path.name} stands at its beginning until somebody subscribes", file=sys.stderr)

    def told(text: str) -> None:
        print(f"truetape: {path.name}: {text}", file=sys.stderr)

    return asyncio.run(
        served(
            path, venue=venue, speed=speed, start=start, end=end, port=port, announce=announce, told=told, again=again
        )
    )


def warn(tree: dict[str, Any]) -> None:
    """What a person should know before believing the answer, on stderr."""
    if tree["frames"] and not tree["events"]:
        print(
            f"truetape: none of {tree['frames']:,} frames made an event: is it another venue's? see --venue",
            file=sys.stderr,
        )
    if tree.get("holes"):
        print(
            f"truetape: {tree['holes']} holes: the digest cannot be compared; truetape verify says where",
            file=sys.stderr,
        )


def _page(tree: dict[str, Any]) -> None:
    console = page()
    events = ", ".join(f"{n:,} {kind}" for kind, n in sorted(tree["events"].items())) or "none"
    console.print(
        f"{tree['records']:,} records, {tree['frames']:,} frames, {tree['errors']:,} errors, {tree['ignored']:,} ignored"
    )
    console.print(f"events: {events}")
    if tree["books"]:
        table = Table(
            "book",
            "state",
            "evidence",
            Column("best bid", no_wrap=True),  # a reason may be folded, a price never
            Column("best ask", no_wrap=True),
            "levels",
            "checksums",
            "gaps",
            "resyncs",
            title="Books at the last record",
        )
        for key, book in tree["books"].items():
            bid = " x ".join(map(figure, book["bids"][0])) if book["bids"] else "-"
            ask = " x ".join(map(figure, book["asks"][0])) if book["asks"] else "-"
            state = book["state"] if book["state"] == "LIVE" else f"{book['state']}: {book['reason']}"
            sums = (
                f"{book['checksums_ok']:,} ok, {book['checksums_failed']} failed"
                if book["checksums_ok"] or book["checksums_failed"]
                else "none offered"
            )
            table.add_row(
                key,
                state,
                book["evidence"],
                bid,
                ask,
                f"{book['n_bids']}/{book['n_asks']}",
                sums,
                str(book["sequence_gaps"]),
                str(book["resyncs"]),
            )
        console.print(table)
    if tree["trades"]:
        table = Table("trades", "n", "base", "quote", "buys", "sells")
        for key, row in tree["trades"].items():
            table.add_row(
                key, f"{row['n']:,}", f"{row['base']:.10g}", f"{row['quote']:.10g}", str(row["buy"]), str(row["sell"])
            )
        console.print(table)
    for gap in tree["gaps"]:
        healed = "recovered" if gap["recovered"] else "not recovered"
        console.print(
            f"gap {gap['venue']}:{gap['symbol']} {gap['channel']} from {gap['from']} to {gap['to']} ({gap['unit']}), {healed}: {gap['reason']}"
        )
    if tree["quarantined"]:
        console.print(f"quarantined: {tree['quarantined']}")
    for line in tree.get("diverged", []):
        console.print(f"diverged: {line}", style="bold red")
    console.print(f"digest {tree['digest']}")
