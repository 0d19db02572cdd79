"""`truetape replay --serve`: a recording as if it were live, by our own protocol and by the venues' (`native.py`), from any time, at any speed.

    journal or capture ─► Tape.steps ─► pump ─► router ─► Service, the same as a gateway's ─► clients

Everything before the beginning is played at once and leads up to it; there the tape stands until somebody has subscribed. Contents depend on
the records alone, so that two plays tell the same. Next door: `replay.py` reports, `serve.py` admits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from truetape.app.capture import BadInput
from truetape.app.config_serve import ServeConfig
from truetape.app.departed import Departed
from truetape.app.ending import Ending
from truetape.app.replay import Pace, moment
from truetape.app.serve import Service
from truetape.app.sim import VENUES
from truetape.app.sinks import Sinks
from truetape.app.tapes import CaptureTape, JournalTape
from truetape.app.wants import Asked, Wants
from truetape.core.feed.delay import Stages
from truetape.core.feed.plan import Feed
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.pump import Pump
from truetape.core.route.router import Router
from truetape.io.clock import now as clock
from truetape.io.net.dial import Dialing

if TYPE_CHECKING:
    from truetape.app.live import Gateway

SECOND = 1_000_000_000
LEAD = 30 * SECOND
"""Without a beginning asked for: how much of a tape is played at most until its books are whole."""
TURN_NS = 5_000_000
TURN_RECORDS = 200
IDLE_S = 0.01


class _Driver:
    """What a service needs of a gateway's driver."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.wakers: dict[Mailbox, Callable[[], None]] = {}
        self.certificate_days: dict[str, float] = {}
        self.stages = Stages()
        self.failed: Exception | None = None

    def fail(self, error: Exception) -> None:
        """A bug: it ends the play."""
        self.failed = self.failed or error

    def wake(self, now: int) -> None:
        """Settle what was published, and wake whoever waits for it."""
        if self.failed is not None:
            raise self.failed
        for box in self._router.flush(now):
            if (waker := self.wakers.get(box)) is not None:
                waker()


class _Wants(Wants):
    """What the tape does not hold cannot be asked for."""

    orders = False

    def hold(self, holder: object, asked: object) -> None:
        """Nothing is ordered of a recording."""

    release = hold


class _Quiet:
    """Of parts that only a running gateway has."""

    def __init__(self, report: Any) -> None:
        self.report = lambda: report


class Stand:
    """A tape in the place of a gateway."""

    journal = tracing = None

    def __init__(self, tape: JournalTape | CaptureTape) -> None:
        self.tape = tape
        self.driver = _Driver(tape.router)
        self.boxes: dict[Mailbox, list[Asked]] = {}
        self.departed = Departed()
        self.service: Service | None = None
        self.started = clock()
        self.pulse, self.hours = _Quiet({}), _Quiet([])
        self.sinks = Sinks(cast("Gateway", self), ())

    @property
    def pump(self) -> Pump:
        """The run's that is played."""
        return self.tape.pump

    @property
    def feeds(self) -> list[Feed]:
        """Those of the moment that is played."""
        return self.tape.feeds

    @property
    def wants(self) -> _Wants:
        """Spellings, as of the run that is played."""
        return _Wants(self.feeds, self.pump, lambda _body: None)

    def dialing(self, _feed: str) -> Dialing:
        """Nothing is dialed."""
        return Dialing()

    def release(self, box: Mailbox, reason: str) -> None:
        """End a client's box."""
        if self.boxes.pop(box, None) is not None:
            self.pump.router.close(box, reason)
            self.departed.left(box)
            if (waker := self.driver.wakers.pop(box, None)) is not None:
                waker()


class TapeServer:
    """Plays a tape for clients. `speed` is max or a factor; with max it goes as fast as the slowest client reads. With `loop` it begins
    anew at its end, as a gateway that was restarted would: everybody is told to come back, to another epoch."""

    def __init__(
        self, path: Path, *, venue: str, speed: str, start: str, end: str, how: ServeConfig, loop: bool = False
    ) -> None:
        if not path.exists():
            raise BadInput(f"{path}: expected a journal's folder or a capture file, found nothing")
        self.factor = Pace(speed).factor
        self.path = path
        self.venue = venue
        self.how = how
        self.loop = loop
        self.played = 0
        self.rounds = 0
        self.service: Service
        self.tape: JournalTape | CaptureTape
        self.stand: Stand
        self._rewind()
        self.begin = moment(start, self.tape.first, "--from")
        self.end = moment(end, self.tape.first, "--to")

    def _rewind(self) -> None:
        """The tape at its first record, with a pump of its own: nothing of an earlier round is left."""
        self.tape = JournalTape(self.path) if self.path.is_dir() else CaptureTape(self.path, self.venue)
        self.stand = Stand(self.tape)
        self.at = self.tape.first
        self._steps = iter(self.tape.steps())
        self._held: list[tuple[int, Any]] = []

    def lead(self) -> None:
        """Up to the beginning: the time asked for, else the first at which every book is whole."""
        tape: Any = self.tape
        for at, item in self._steps:
            if self.begin is not None and at >= self.begin:
                self._held.append((at, item))
                return
            tape.play(item)
            self.at = at
            if self.begin is None and (self._whole() or at - tape.first > LEAD):
                return
        if self.begin is not None:
            raise BadInput("--from: expected a time before the last record, found one behind it")

    def _whole(self) -> bool:
        books = [stream for link in self.tape.pump.links.values() for stream in link.book_streams()]
        return bool(books) and all(stream.readable for stream in books)

    async def serve(self, announce: Callable[[dict[str, Any]], None], stopped: asyncio.Future[int]) -> int:
        """Lead up, listen, tell where, play; exit code 0 at the end of the tape, else what `stopped` says. Raises ConfigError, BadInput."""
        while True:
            await self._round(announce if not self.rounds else None, stopped)
            if stopped.done():
                return stopped.result()
            if not self.loop:
                return 0
            self.how = replace(self.how, port=self.service.port)  # where everybody comes back to
            self._rewind()

    async def _round(self, announce: Callable[[dict[str, Any]], None] | None, stopped: asyncio.Future[int]) -> None:
        """From the beginning to the end, once."""
        self.lead()
        self.rounds += 1
        self.service = Service(cast("Gateway", self.stand), self.how, f"{self.stand.started:x}")
        self.stand.service = self.service
        await self.service.start()
        try:
            if announce is not None:
                announce(self.addresses())
            async with asyncio.TaskGroup() as group:
                play = group.create_task(self._play())
                await asyncio.wait((play, stopped), return_when=asyncio.FIRST_COMPLETED)
                play.cancel()
            again = self.loop and not stopped.done()
            for visit in list(self.service.natives.visits.values()):
                visit.hang(1012 if again else 1000, "the tape begins anew" if again else "the tape ends")
        finally:
            await self.service.close()
            self.service.hang_up()

    def addresses(self) -> dict[str, Any]:
        """The first line of stdout."""
        base = f"127.0.0.1:{self.service.port}"
        native = {
            venue: {"ws": f"ws://{base}/native/{venue}", "rest": f"http://{base}/native/{venue}"}
            for venue in self.service.natives.speakers
        }
        symbols = [
            f"{stream.venue}:{stream.symbol}"
            for link in self.tape.pump.links.values()
            for stream in link.streams.values()
        ]
        return {
            "tape": str(self.tape.path), "port": self.service.port, "stream": f"ws://{base}/v1/stream", "native": native,
            "symbols": list(dict.fromkeys(symbols)), "at": self.at,
        }  # fmt: skip

    def _wanted(self) -> bool:
        return bool(self.service.desk.subscriptions) or any(
            bot.told for speaker in self.service.natives.speakers.values() for bot in speaker.room.bots.values()
        )

    def _free(self) -> bool:
        """Whether every client reads."""
        clients, visits = self.service.hall.clients, self.service.natives.visits.values()
        return not any(client.blocked_since for client in clients) and all(visit.roomy() for visit in visits)

    async def _play(self) -> None:
        tape: Any = self.tape
        driver = self.stand.driver
        await _until(self._wanted)
        began, first, turn, count = clock(), 0, clock(), 0
        for at, item in self._all():
            if self.end is not None and at > self.end:
                break
            first = first or at
            now = clock()
            due = began + round((at - first) / self.factor) if self.factor else now
            count += 1
            if due - now > SECOND // 1000:
                driver.wake(now)
                await asyncio.sleep((due - now) / SECOND)
                turn, count = clock(), 0
            elif now - turn > TURN_NS or count >= TURN_RECORDS:
                driver.wake(now)
                await asyncio.sleep(0)
                if not self.factor:
                    await _until(self._free)
                turn, count = clock(), 0
            tape.play(item)
            self.at = at
            self.played += 1
        driver.wake(clock())
        for _ in range(3):  # each: boxes are taken, and what they held is written
            await asyncio.sleep(IDLE_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.how.limits.write_s):
                await _until(self._free)

    def _all(self) -> Iterator[tuple[int, Any]]:
        yield from self._held
        self._held.clear()
        yield from self._steps


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  what is waited for tells nobody
        await asyncio.sleep(IDLE_S)


def natives(feeds: list[Feed]) -> list[Any]:
    """The dialects in which these feeds can be told."""
    return [
        name for name in VENUES if any(feed.venue.startswith(name) for feed in feeds if feed.venue != "binance_usdm")
    ]


async def serve(
    path: Path, *, venue: str, speed: str, start: str, end: str, port: int, announce: Callable[[dict[str, Any]], None],
    told: Callable[[str], None], again: bool = False,
) -> int:  # fmt: skip
    """Play a tape on the loopback until it ends (0; never with `again`), SIGTERM (0) or SIGINT (130). Raises BadInput, ConfigError."""
    stopped = Ending().code
    how = ServeConfig(port=port)
    server = TapeServer(path, venue=venue, speed=speed, start=start, end=end, how=how, loop=again)
    server.how = ServeConfig(port=port, native=natives(server.tape.feeds))
    code = await server.serve(announce, stopped)
    rounds = f" in {server.rounds} rounds" if again else ""
    told(f"{server.played:,} records played{rounds}; " + ("stopped" if stopped.done() else "the tape ends"))
    return code
