"""`truetape faults`: every fault rehearsed on every venue where it means something, and the table of what became of it."""

from __future__ import annotations

import sys

import msgspec
import uvloop

from truetape.app import secrets
from truetape.app.config import ConfigError
from truetape.app.rehearsal import Outcome, matrix, rehearse, seconds
from truetape.app.sim import VENUES
from truetape.core.sim.faults import KNOWN
from truetape.io.obs import log

AT_ONCE = 14
"""Rehearsals at a time: two small cores then still keep time."""
HEADS = ("fault", "venue", "detected s", "recovered s", "lost", "accounted", "oldest LIVE s", "verdict")


def faults(names: list[str], venue: str = "", as_json: bool = False, at_once: int = AT_ONCE) -> int:
    """Rehearse; exit 1 where a book was wrong and LIVE, or something was lost unsaid. Raises ConfigError for unknown names."""
    if unknown := [name for name in names if name not in KNOWN]:
        raise ConfigError(f"faults: expected some of {', '.join(KNOWN)}; found {unknown[0]!r}")
    if venue and venue not in VENUES:
        raise ConfigError(f"venue: expected one of {', '.join(VENUES)}, found {venue!r}")
    pairs = matrix(names, [venue] if venue else [])
    if not pairs:
        raise ConfigError(f"faults: {', '.join(names)} means nothing on {venue}; docs/simulator.md says where it does")
    log.setup(secrets.redact, level=50)  # connections break here by order
    count = 0

    def told(outcome: Outcome) -> None:
        nonlocal count
        count += 1
        print(
            f"{count}/{len(pairs)} {outcome.fault} on {outcome.venue}: {outcome.verdict}", file=sys.stderr, flush=True
        )

    outcomes = uvloop.run(rehearse(pairs, at_once=at_once, told=told))
    sys.stdout.write(table(outcomes))
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if as_json:
        print(msgspec.json.encode({"ok": not failed, "outcomes": outcomes}).decode())
    return 1 if failed else 0


def cells(outcome: Outcome) -> tuple[str, ...]:
    """One row as text."""
    return (
        outcome.fault, outcome.venue, seconds(outcome.detected_s), seconds(outcome.recovered_s), str(outcome.lost),
        str(outcome.accounted), seconds(outcome.behind_s), outcome.verdict,
    )  # fmt: skip


def table(outcomes: list[Outcome]) -> str:
    """Columns of equal width."""
    rows = [HEADS, *map(cells, outcomes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS) - 1)]
    return "".join("  ".join([*map(str.ljust, row, widths), row[-1]]) + "\n" for row in rows)


def markdown(outcomes: list[Outcome]) -> str:
    """The same for a page."""
    rows = [HEADS, ("---",) * len(HEADS), *map(cells, outcomes)]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)
