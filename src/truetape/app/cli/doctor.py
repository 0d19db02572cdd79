"""`truetape doctor`: a table, or JSON."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from truetape.app import doctor as room
from truetape.app.config import load
from truetape.app.secrets import redact
from truetape.app.symbols import resolve_all

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "dim"}


def doctor(path: Path, as_json: bool) -> int:
    """Exit code 1 where something fails."""
    config = load(path)
    found = asyncio.run(room.examine(config, resolve_all(config)))
    failed = any(row.verdict == "fail" for row in found)
    if as_json:
        text = msgspec.json.encode({"ok": not failed, "checks": found}).decode()
        print(redact(text))
        return int(failed)
    table = Table(box=None, pad_edge=False)
    for name in ("", "check", "found", "what to do"):
        table.add_column(name)
    for row in found:
        table.add_row(
            f"[{COLOURS[row.verdict]}]{row.verdict}[/]",
            *(redact(text).replace("[", "\\[") for text in (row.check, row.found, row.todo)),
        )
    Console(highlight=False, soft_wrap=True).print(table)
    return int(failed)
