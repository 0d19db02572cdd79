"""The last events as tables: Arrow, polars or pandas, one table for each kind, its times as timestamps.

The three libraries come with `pip install 'truetape[tables]'` and are imported when first asked for, here and nowhere else.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import msgspec

from truetape.app import notebook
from truetape.model.event import KINDS, Book, Market

TIMES = ("ts", "recv", "first_ts", "last_ts", "start", "from_ts", "to_ts", "since")
"""Fields that are ns since the epoch; 0 is "not given"."""
STRUCTS = {kind: struct for struct, kind in KINDS.items()}
LEFT_OUT = ("marks",)


class Events(list[Market]):
    """Events in order, of any kinds: `truetape.Events(await sub.take(1000)).to_polars("trade")`.

    Each method gives the table of one kind, or without one a dict of all that are here. A book's sides are lists of equal length:
    `bid_prices`, `bid_sizes`, `ask_prices`, `ask_sizes`, best first in a whole book.
    """

    def _repr_html_(self) -> str:
        """The last of them, for a notebook."""
        return notebook.of_events(self)

    def to_arrow(self, kind: str = "") -> Any:
        """pyarrow tables. Raises ImportError naming what to install, ValueError for an unknown kind."""
        pa = _load("pyarrow")
        return _each(self, kind, lambda name, events: _arrow(pa, name, events))

    def to_polars(self, kind: str = "") -> Any:
        """polars frames."""
        pa, pl = _load("pyarrow"), _load("polars")
        return _each(self, kind, lambda name, events: pl.from_arrow(_arrow(pa, name, events)))

    def to_pandas(self, kind: str = "") -> Any:
        """pandas frames."""
        pa, _ = _load("pyarrow"), _load("pandas")
        return _each(self, kind, lambda name, events: _arrow(pa, name, events).to_pandas())


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"tables need {name}, which is not installed: pip install 'truetape[tables]'") from None


def _each(events: Iterable[Market], kind: str, make: Any) -> Any:
    if kind and kind not in STRUCTS:
        raise ValueError(f"expected one of {', '.join(STRUCTS)}, found {kind!r}")
    if kind:
        return make(kind, [event for event in events if type(event) is STRUCTS[kind]])
    found: dict[str, list[Market]] = {}
    for event in events:
        found.setdefault(KINDS[type(event)], []).append(event)
    return {name: make(name, rows) for name, rows in found.items()}


def _arrow(pa: Any, kind: str, events: list[Any]) -> Any:
    """One kind as an Arrow table; also of no events at all, with the right columns."""
    columns: dict[str, Any] = {}
    for field in msgspec.structs.fields(STRUCTS[kind]):
        name = field.name
        if name in LEFT_OUT:
            continue
        values = [getattr(event, name) for event in events]
        if STRUCTS[kind] is Book and name in ("bids", "asks"):
            side = name[:-1]
            columns[f"{side}_prices"] = pa.array([[p for p, _ in rows] for rows in values], pa.list_(pa.float64()))
            columns[f"{side}_sizes"] = pa.array([[s for _, s in rows] for rows in values], pa.list_(pa.float64()))
        elif name in TIMES:
            columns[name] = pa.array([value or None for value in values], pa.timestamp("ns", tz="UTC"))
        else:
            columns[name] = pa.array(values, _type(pa, field.type))
    return pa.table(columns)


def _type(pa: Any, declared: Any) -> Any:
    """The Arrow type of a field: text, whole numbers, floats (None where absent), yes or no."""
    types = getattr(declared, "__args__", (declared,))
    for python, arrow in ((str, pa.string()), (bool, pa.bool_()), (float, pa.float64()), (int, pa.int64())):
        if python in types:
            return arrow
    raise AssertionError(f"no column is made of {declared}")
