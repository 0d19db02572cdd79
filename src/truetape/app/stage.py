"""A simulated venue for somebody's test: a thread with a loop of its own, so that tests of any kind can use it, sync or async.

    with Stage("kraken", symbols=2, faults="mute-symbol@1s") as sim: ...
    async with Stage("binance") as sim: ...

Next door: `sim.py` is the simulator; `truetape.testing` is the pytest plugin that hands these out.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from truetape.app.config import ConfigError
from truetape.app.dialects import dialect
from truetape.app.sim import Options, Simulator
from truetape.core.sim.faults import BadFault, Fault, parse

WITHIN_S = 30.0
"""How long the thread may take to answer."""
SECOND = 1_000_000_000
T = TypeVar("T")


def script(faults: str | Iterable[str]) -> tuple[Fault, ...]:
    """Faults as lines, or as one text. Raises BadFault."""
    return tuple(parse(faults.splitlines() if isinstance(faults, str) else faults))


class Stage:
    """A simulator that runs from `with` or `async with` to its end. Raises ConfigError for what cannot be simulated."""

    def __init__(
        self, venue: str = "kraken", *, symbols: int = 2, rate: float = 100.0, seed: int = 1, faults: str | Iterable[str] = (),
        key: str = "", tls: str = "",
    ) -> None:  # fmt: skip
        try:
            options = Options(
                venue=venue, symbols=symbols, rate=rate, seed=seed, faults=script(faults), key=key, tls=tls
            )
            self._sim = Simulator(options)
        except BadFault as error:
            raise ConfigError(f"faults: {error}") from None
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._stop = asyncio.Event()
        self._up: Future[None] = Future()

    # -- life -----------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Serve; returns when clients can connect."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="truetape-sim", daemon=True)
            self._thread.start()
        self._up.result(WITHIN_S)
        return self

    def stop(self) -> None:
        """Close every connection and end; as often as you like."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(WITHIN_S)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001  told to whoever waits in `start`
            if not self._up.done():
                self._up.set_exception(error)
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async with self._sim:
            self._up.set_result(None)
            await self._stop.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def _ask(self, question: Callable[[], T]) -> T:
        """Have something done on the simulator's own thread, between two of its turns."""
        answer: Future[T] = Future()

        def do() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001  told to whoever asked
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(do)
        return answer.result(WITHIN_S)

    # -- what a test wants ----------------------------------------------------------------------------------------------

    @property
    def ws(self) -> str:
        """Where its WebSocket is."""
        return self._sim.ws

    @property
    def rest(self) -> str:
        """Where its REST is."""
        return self._sim.rest

    @property
    def symbols(self) -> list[str]:
        """Canonical names."""
        return self._sim.symbols

    @property
    def ids(self) -> list[str]:
        """`venue:SYMBOL`, as a gateway calls them."""
        return [f"{self._sim.options.venue}:{symbol}" for symbol in self.symbols]

    def feed(self, **more: Any) -> dict[str, Any]:
        """A `[[feeds]]` table for it, with whatever else you want in it."""
        venue = self._sim.options.venue
        row = {"venue": venue, "symbols": self.symbols, "url": self.ws, "rest_url": self.rest, "market": "always"}
        if self._sim.ca_file:
            row["ca_file"] = self._sim.ca_file
        return row | more

    def config(self, **more: Any) -> dict[str, Any]:
        """A whole configuration, for `truetape.open`."""
        return {"feeds": [self.feed(**more)]}

    def book(self, symbol: str, depth: int = 10) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """The true book now: bids and asks as (price, size), best first."""
        raw = dialect(self._sim.options.venue).native(symbol.partition(":")[2] or symbol)

        def levels() -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
            bids, asks = self._sim.market.levels(raw, depth)
            return [(float(p), float(q)) for p, q in bids], [(float(p), float(q)) for p, q in asks]

        return self._ask(levels)

    def fault(self, line: str) -> None:
        """Make a fault now: `close-1006`, `drop-delta:BTC-USDT=3`. Raises ConfigError."""
        try:
            (found,) = parse([line])
            self._sim.check([found])
        except (BadFault, ValueError) as error:
            raise ConfigError(f"fault {line!r}: {error}") from None
        self._ask(lambda: self._sim.script.add(found))

    def pause(self) -> None:
        """Let the market stand still: nothing new is said until `resume`."""
        self._ask(lambda: self._pace(0.0))

    def resume(self) -> None:
        """Go on at the rate from before."""
        self._ask(lambda: self._pace(self._sim.options.rate))

    def _pace(self, rate: float) -> None:
        self._sim.venue.rate = rate
        self._sim.restart_pace()
