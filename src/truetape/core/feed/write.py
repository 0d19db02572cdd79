"""Exact writers that several dialects share: decimal text and times. The counterpart of `parse.py`; nothing here knows a venue."""

from __future__ import annotations

from functools import lru_cache

DAY = 86_400


def decimal(value: int, places: int) -> str:
    """`value` steps of 10^-places, not negative, with every digit: (1234, 2) -> `12.34`, (5, 3) -> `0.005`, (7, 0) -> `7`."""
    if not places:
        return str(value)
    digits = str(value)
    if len(digits) <= places:
        return f"0.{digits:0>{places}}"
    return f"{digits[:-places]}.{digits[-places:]}"


def steps(value: float, places: int) -> int:
    """Back again from a float: how many steps of 10^-places it is; exact for what `decimal` wrote, below 2^53 steps."""
    return round(value * 10.0**places)


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS` of seconds since the epoch (Howard Hinnant's civil-from-days arithmetic)."""
    days, rest = divmod(seconds, DAY)
    days += 719_468
    era, of_era = divmod(days, 146_097)
    of_era_year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * of_era_year + of_era_year // 4 - of_era_year // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = of_era_year + era * 400 + (month <= 2)
    return f"{year:04}-{month:02}-{day:02}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


@lru_cache(maxsize=64)
def rfc3339(ns: int) -> str:
    """An RFC 3339 time with microseconds; messages of one batch share the work."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{fraction // 1000:06}Z"
