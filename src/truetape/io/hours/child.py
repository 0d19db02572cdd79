"""The child process: `python -m truetape.io.hours.child DAYS TODAY MARKET…` prints the sessions of each market as one JSON object, and ends.

`{"tables": [{"market", "start", "end", "spans": [[opens, closes], …]}], "errors": {market: why}}`, all times ns since 1970. Lunch breaks
are left out of the spans; half days, holidays and daylight saving are the calendar's.
Next door: `reader.py` starts this and reads what it printed.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

CODES = {"US": "XNYS", "HK": "XHKG", "SH": "XSHG", "SZ": "XSHG"}
"""Market -> ISO 10383 code; Shenzhen keeps Shanghai's hours. Any other name is taken for a code itself (XLON, XTKS …)."""
DAY = timedelta(days=1)
FOREX_ZONE = "America/New_York"


def nanoseconds(moment: Any) -> int:
    """Of an aware datetime, to the second."""
    return int(moment.timestamp()) * 1_000_000_000


def forex(first: datetime, days: int) -> list[tuple[int, int]]:
    """The week of foreign exchange and metals: from Sunday 17:00 in New York to Friday 17:00. No calendar has it, and it has no holidays."""
    zone = ZoneInfo(FOREX_ZONE)
    spans = []
    for number in range(-7, days + 1):
        day = (first + number * DAY).date()
        if day.isoweekday() == 7:
            ends = datetime.combine(day + 5 * DAY, time(17), zone)
            spans.append((nanoseconds(datetime.combine(day, time(17), zone)), nanoseconds(ends)))
    return spans


def exchange(code: str, first: datetime, days: int) -> list[tuple[int, int]]:
    """The sessions of one exchange. Raises what the library raises where it does not know the code."""
    from exchange_calendars import get_calendar  # type: ignore[import-untyped]  # it has no stubs; only tables leave this process

    calendar = get_calendar(code, start=first.date().isoformat(), end=(first + days * DAY).date().isoformat())
    spans: list[tuple[int, int]] = []
    for row in calendar.schedule.itertuples():
        opens, closes = nanoseconds(row.open), nanoseconds(row.close)
        if row.break_start == row.break_start:  # NaT, where there is none, equals nothing
            spans.append((opens, nanoseconds(row.break_start)))
            opens = nanoseconds(row.break_end)
        spans.append((opens, closes))
    return spans


def read(markets: list[str], days: int, today: datetime) -> dict[str, Any]:
    """The tables of these markets from three days ago on; what cannot be had is told."""
    first = today.replace(hour=0, minute=0, second=0, microsecond=0) - 3 * DAY
    tables, errors = [], {}
    for market in markets:
        try:
            spans = forex(first, days + 4) if market == "FX" else exchange(CODES.get(market, market), first, days + 4)
        except Exception as error:  # noqa: BLE001  whatever the library says of one market, the others are told; the parent warns
            errors[market] = f"{type(error).__name__}: {error}"[:300]
            continue
        bounds = nanoseconds(first + DAY), nanoseconds(first + (days + 3) * DAY)
        tables.append({"market": market, "start": bounds[0], "end": bounds[1], "spans": spans})
    return {"tables": tables, "errors": errors}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(read(sys.argv[3:], int(sys.argv[1]), datetime.fromtimestamp(int(sys.argv[2]), UTC))))
