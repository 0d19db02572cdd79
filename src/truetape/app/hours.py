"""Market hours for a running gateway: which tables are needed, read in a child process, told to the pump as recorded commands.

Without a table (the extra `calendars` is not installed, the child failed, nobody knows the market) data are judged as ever, but silence is
QUIET with `the hours of market … are not known`, never an alarm, and a book in it is not read as good. It is said once, and tried again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from truetape.core.route.orders import Told
from truetape.io.clock import now as clock
from truetape.io.hours.reader import read
from truetape.io.obs import log

if TYPE_CHECKING:
    from truetape.app.live import Gateway

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
DAYS = 14
LOOK_S = 5.0
"""Between two looks for markets without a table; renewed a day after it was read."""
AGAIN_S = 3600.0


class MarketHours:
    """The task that keeps the pump's tables fresh."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._asked: dict[str, int] = {}  # market -> when it is read again
        self.errors: dict[str, str] = {}

    async def keep(self) -> None:
        """Look after the hours until this is cancelled; a child that still runs is ended then."""
        while True:
            await self._renew()
            await asyncio.sleep(LOOK_S)

    async def _renew(self) -> None:
        now = clock()
        hours = self._gateway.pump.judge.hours
        self._asked = {market: at for market, at in self._asked.items() if market in hours}
        due = [market for market in hours if self._asked.get(market, 0) <= now]
        if not due:
            return
        answer = await read(due, DAYS, now // SECOND)
        now = clock()
        self._asked.update(dict.fromkeys(due, now + round(AGAIN_S * SECOND)))
        for table in answer.tables:
            self._asked[table.market] = now + DAY
            self._gateway.driver.command(msgspec.json.encode(Told(table)))
            self.errors.pop(table.market, None)
        for market, why in answer.errors.items():
            if market not in self.errors:
                remedy = "install truetape[calendars]" if "exchange_calendars" in why else "set market = for the feed"
                log.warning("market hours not known", market=market, why=why, remedy=remedy)
            self.errors[market] = why

    def report(self) -> dict[str, str]:
        """For status: of each market `open`, `closed`, or why that is not known."""
        now = clock()
        return {
            name: ("open" if hours.opened(now) else "closed")
            if hours.known(now)
            else self.errors.get(name, "not known yet")
            for name, hours in self._gateway.pump.judge.hours.items()
        }
