"""Calendars, read for real in a child process."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from truetape.io.hours.child import forex, read
from truetape.io.hours.reader import read as read_in_child

S = 1_000_000_000
TODAY = 1_764_331_200
SHORT_DAY = datetime(2025, 11, 28, 12, tzinfo=UTC)
"""The day after Thanksgiving: New York closes at 13:00."""


def local(spans: list[tuple[int, int]], zone: str) -> list[str]:
    place = ZoneInfo(zone)
    return [
        f"{datetime.fromtimestamp(a // S, place):%m-%d %H:%M}-{datetime.fromtimestamp(b // S, place):%H:%M}"
        for a, b in spans
    ]


def test_holidays_half_days_and_lunch() -> None:
    tables = {row["market"]: row["spans"] for row in read(["US", "HK", "SZ"], 3, SHORT_DAY)["tables"]}
    assert local(tables["US"], "America/New_York")[:4] == [
        "11-25 09:30-16:00", "11-26 09:30-16:00", "11-28 09:30-13:00", "12-01 09:30-16:00",
    ]  # fmt: skip
    assert local(tables["HK"], "Asia/Hong_Kong")[:2] == ["11-25 09:30-12:00", "11-25 13:00-16:00"]
    assert local(tables["SZ"], "Asia/Shanghai")[:2] == ["11-25 09:30-11:30", "11-25 13:00-15:00"]


def test_daylight_saving_moves_the_opening() -> None:
    (table,) = read(["US"], 4, datetime(2026, 3, 9, tzinfo=UTC))["tables"]
    hours = [datetime.fromtimestamp(a // S, UTC).hour for a, _ in table["spans"]]
    assert hours[0] == 14 and hours[-1] == 13, "8 March 2026"


def test_the_forex_week_runs_from_sunday_to_friday_in_new_york() -> None:
    spans = forex(datetime(2026, 3, 2, tzinfo=UTC), 14)
    assert all(90 <= (b - a) / S / 3600 <= 121 for a, b in spans) and len(spans) >= 3
    assert {text[6:11] for text in local(spans, "America/New_York")} == {"17:00"}


async def test_a_child_reads_tables_and_says_what_it_does_not_know() -> None:
    answer = await read_in_child(["US", "NOWHERE"], 7, TODAY)
    (table,) = answer.tables
    assert table.market == "US" and table.start < table.spans[2][0] < table.end
    assert list(answer.errors) == ["NOWHERE"]


async def test_a_child_that_takes_too_long_is_ended_and_told() -> None:
    answer = await read_in_child(["US"], 7, TODAY, within_s=0.001)
    assert answer.tables == [] and "no answer within" in answer.errors["US"]
