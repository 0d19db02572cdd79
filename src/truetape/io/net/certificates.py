"""How long the venues' certificates are valid still, and a warning while a person can do something. Next door: `driver.py` dials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from truetape.io.clock import wall_ns
from truetape.io.net.pins import days_left

SECOND = 1_000_000_000
EXPIRY_ALARM_DAYS = 30


class Certificates:
    """Of each connection, as it was dialed last (`days`), and of its snapshots."""

    def __init__(self, log: Callable[..., None]) -> None:
        self.days: dict[str, float] = {}
        self._rest: dict[str, int] = {}  # whole days that were looked at last
        self._log = log

    def dialed(self, source: str, transport: Any) -> None:
        """A connection stands."""
        days = days_left(transport.underlying_transport.get_extra_info("ssl_object"), wall_ns() / SECOND)
        if days is None:
            self.days.pop(source, None)
            return
        self.days[source] = days
        self._alarm(source, days)

    def fetched(self, source: str, days: float | None) -> None:
        """A snapshot came; looked at once a day, not for each."""
        if days is not None and self._rest.get(source) != int(days):
            self._rest[source] = int(days)
            self._alarm(f"{source} rest", days)

    def forget(self, source: str) -> None:
        """There is no such connection any more."""
        self.days.pop(source, None)
        self._rest.pop(source, None)

    def _alarm(self, source: str, days: float) -> None:
        if days < EXPIRY_ALARM_DAYS:
            self._log("the venue's certificate expires soon", source=source, days=round(days, 1))
