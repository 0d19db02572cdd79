"""`truetape verify` and `truetape dump`: what a journal holds, byte for byte."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from truetape.app.cli.replay import bar
from truetape.app.config import ConfigError
from truetape.app.replay import Player, journal
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.router import Router
from truetape.io.store import reader
from truetape.model.record import NAMES, Header, Record

EVENTS = ("trade", "quote", "book", "book_delta", "bar", "ticker", "gap", "status")


def verify(directory: Path, as_json: bool) -> int:
    """0 sound (a repaired tail is a warning), 1 damaged. Raises BadInput where there is no journal."""
    journal(directory)
    with bar(f"verifying {directory.name}") as progress:
        told = (lambda done, total: progress(done / max(1, total), 0)) if progress is not None else None
        found = reader.verify(directory, told)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        print(f"{found.segments} segments, {found.records:,} records: {'sound' if found.sound else 'damaged'}")
        if found.first_t is not None and found.last_t is not None:
            print(f"covers {(found.last_t - found.first_t) / 1e9:,.1f} s")
        if found.repaired_tail:
            print("a torn tail was cut off: nothing that was acknowledged stood there")
        for hole in found.holes:
            print(f"hole: {hole.file} at byte {hole.offset}: {hole.why}")
    return 0 if found.sound else 1


def dump(directory: Path, kinds: list[str], as_csv: bool) -> int:
    """Records by kind, or the events that replaying makes of them; JSON lines unless CSV is asked for."""
    for kind in kinds:
        if kind not in NAMES and kind not in EVENTS:
            raise ConfigError(
                f"--kind: expected one of {', '.join(NAMES)} (records) or {', '.join(EVENTS)} (events), found {kind!r}"
            )
    if {"book", "book_delta"} <= set(kinds):
        raise ConfigError("--kind: expected book (whole states) or book_delta (changes), found both")
    journal(directory)
    put = _csv() if as_csv else _jsonl
    events = [kind for kind in kinds if kind in EVENTS]
    if events:
        _events(directory, events, put)
    if not kinds or len(events) < len(kinds):
        _records(directory, [kind for kind in kinds if kind in NAMES], put)
    return 0


def _jsonl(row: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(row).decode() + "\n")


def _csv() -> Callable[[dict[str, Any]], None]:
    """Rows under a header of their own; a new header stands wherever the fields change."""
    writer = csv.writer(sys.stdout)
    shown: list[str] = []

    def put(row: dict[str, Any]) -> None:
        if list(row) != shown:
            shown[:] = list(row)
            writer.writerow(shown)
        writer.writerow(
            [
                value if isinstance(value, str | int | float) else msgspec.json.encode(value).decode()
                for value in row.values()
            ]
        )

    return put


def _records(directory: Path, kinds: list[str], put: Callable[[dict[str, Any]], None]) -> None:
    for item in reader.read(directory):
        if isinstance(item, Header):
            continue
        kind = type(item).__name__.lower()
        if not kinds or kind in kinds:
            put({"kind": kind, **{name: _shown(getattr(item, name)) for name in item.__struct_fields__}})


def _shown(value: object) -> object:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _events(directory: Path, kinds: list[str], put: Callable[[dict[str, Any]], None]) -> None:
    """Play the journal with a listener for these kinds."""
    boxes: list[Mailbox] = []

    def router() -> Router:
        made = Router()
        box = Mailbox("dump", drop_oldest, bound=1 << 40)
        data = [kind for kind in kinds if kind not in ("gap", "status")] or ["trade"]
        made.subscribe(box, [(kind, "*", "*") for kind in data])
        boxes.append(box)
        return made

    player = Player(router)
    names = {"Book": "book_delta" if "book_delta" in kinds and "book" not in kinds else "book"}
    for part in reader.read(directory):
        if isinstance(part, Header):
            player.begin(part)
            continue
        player.play(part)
        _drain(boxes[-1], part, kinds, names, put)


def _drain(
    box: Mailbox, part: Record, kinds: list[str], names: dict[str, str], put: Callable[[dict[str, Any]], None]
) -> None:
    for event in box.take(1 << 30, part.now):
        name = type(event).__name__
        if names.get(name, name.lower()) in kinds:
            put(msgspec.to_builtins(event))
