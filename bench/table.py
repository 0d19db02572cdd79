"""The table of PERFORMANCE.md section 6 with today's figures beside the targets."""

from bench.results import Entry
from bench.targets import TARGETS, Target


def table(entries: dict[str, Entry], today: set[str]) -> str:
    """Text for a terminal; a figure of an earlier run carries its date."""
    head = ["figure", "ours", "other side", "times", "target", "stretch", ""]
    rows = [_row(key, entry, key in today) for key, entry in entries.items() if key in TARGETS]
    rows += [[TARGETS[key].what, "-", "-", "-", *_bounds(TARGETS[key]), "not measured"]
             for key in TARGETS if key not in entries]  # fmt: skip
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(_cell(row, i, width) for i, width in enumerate(widths)).rstrip() for row in [head, *rows]]
    lines.insert(1, "-" * max(len(line) for line in lines))
    notes = [f"VOID {key}: {why}" for key, entry in entries.items() for why in entry["void"]]
    notes += [f"BROKEN {key}: {why}" for key, entry in entries.items() for why in entry["broken"]]
    return "\n".join([*lines, *notes])


def _row(key: str, entry: Entry, fresh: bool) -> list[str]:
    target = TARGETS[key]
    verdict = _verdict(target, entry) + ("" if fresh else f" (of {entry['measured']})")
    ours, other = f"{_number(entry['a'])} {target.unit}", f"{_number(entry['b'])} {entry['b_is']}"
    return [target.what, ours, other, f"{entry['ratio']:.2f}", *_bounds(target), verdict]


def _verdict(target: Target, entry: Entry) -> str:
    if entry["void"]:
        return "void"
    if target.wished:
        return "stretch met" if entry["met"] else "stretch not met"
    if not entry["met"]:
        return "MISSED"
    stretch = target.stretch is not None and target.reached(entry["a"], entry["ratio"], target.stretch)
    return "met, stretch too" if stretch else "met"


def _bounds(target: Target) -> list[str]:
    """The cells of the target and of the stretch."""
    bounds = (None, target.target) if target.wished else (target.target, target.stretch)
    if target.rule == "ratio >=":
        return ["-" if bound is None else f"{_number(bound)} x" for bound in bounds]
    return ["-" if bound is None else f"{target.rule[2:]} {_number(bound)}" for bound in bounds]


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _cell(row: list[str], i: int, width: int) -> str:
    return row[i].rjust(width) if i == 3 else row[i].ljust(width)
