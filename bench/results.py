"""bench/results/latest.json: one entry per key, each with the day it was measured.

`a` is ours, `b` the other side, `ratio` how many times better ours is (always: higher is better for us), `target` what
must be reached, `rule` by what. A key that a run did not measure keeps what an earlier run wrote, with its own date;
nothing is ever filled in.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.targets import TARGETS

LATEST = Path(__file__).parent / "results" / "latest.json"

Entry = dict[str, Any]


def entry(key: str, a: float, b: float, b_is: str, detail: dict[str, Any], broken: list[str] | None = None) -> Entry:
    """The entry of one key. `broken` are the other conditions that do not hold: lost frames, memory."""
    target = TARGETS[key]
    ratio = target.ratio(a, b) if a and b else 0.0
    return {
        "a": round(a, 4),
        "b": round(b, 4),
        "ratio": round(ratio, 3),
        "unit": target.unit,
        "target": target.target,
        "rule": f"{target.rule} target",
        "met": target.reached(a, ratio, target.target) and not broken,
        "b_is": b_is,
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "broken": broken or [],
        "void": [],
        "detail": detail,
    }


def voided(made: Entry, reasons: list[str]) -> Entry:
    """The same entry, marked: its ratio means nothing, because the other side was not itself."""
    if reasons:
        made.update(void=reasons, met=False)
    return made


def previous(path: Path = LATEST) -> dict[str, Entry]:
    """What earlier runs measured."""
    if not path.exists():
        return {}
    loaded: dict[str, Entry] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def write(measured: dict[str, Entry], path: Path = LATEST) -> dict[str, Entry]:
    """Merge into the file, in the order of the table; the whole that is there now."""
    merged = {**previous(path), **measured}
    ordered = {key: merged[key] for key in [*TARGETS, *sorted(set(merged) - set(TARGETS))] if key in merged}
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
    part.rename(path)
    return ordered
