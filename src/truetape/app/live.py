"""The gateway in process: configuration in, books and subscriptions out, over real sockets.

    async with truetape.open("gateway.toml") as gw:
        async for event in gw.subscribe("binance:BTC-USDT", ["book", "trade"], mode=truetape.conflate(ms=2)):
            ...

Everything runs on the caller's event loop: one pump, one driver, one TaskGroup. What fails inside ends the `async with` with the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from random import SystemRandom
from typing import Any, Literal, Self

import truetape
from truetape.app import calm, operate, reload, secrets
from truetape.app.config import Config, ConfigError, JournalConfig, load, parse
from truetape.app.departed import Departed
from truetape.app.dialing import Dialings
from truetape.app.header import decode_feed, encode_feeds
from truetape.app.hours import MarketHours
from truetape.app.notebook import StatusTree
from truetape.app.pulse import Pulse
from truetape.app.serve import Service
from truetape.app.sinks import Sinks
from truetape.app.status import status
from truetape.app.subscription import Closed, Subscription
from truetape.app.symbols import fetch_lists, resolve_all
from truetape.app.tracing import Tracing
from truetape.app.view import BookView, NotLive
from truetape.app.wants import Asked, Wants
from truetape.core.feed.health import Stream
from truetape.core.feed.plan import Feed
from truetape.core.guard import Restarts
from truetape.core.route import checkpoint
from truetape.core.route.mailbox import Mailbox, Mode
from truetape.core.route.modes import drop_oldest
from truetape.core.route.pump import Pump
from truetape.io.clock import now as clock
from truetape.io.net.driver import Dialing, Driver
from truetape.io.obs import log
from truetape.io.serve.control import Answer, ControlServer
from truetape.io.store.journal import Journal, Origin

DRAIN_S, SEAL_LEAST_S = 9.0, 1.0
"""A drain is over by then: what the disk did not take is missing from the tape's end, and is said. So long it has at the least."""


class Gateway:
    """A running gateway. Make one with `truetape.open(...)` and enter it once."""

    def __init__(self, config: Config, *, name: str = "gateway") -> None:
        if not config.feeds:
            raise ConfigError(
                "feeds: expected at least one [[feeds]] table, found none; `truetape config --defaults` shows one"
            )
        self.config = config
        self.path: Path | None = None  # of the file, which may be read again
        self.name = name
        self.feeds: list[Feed] = resolve_all(config)
        self.seed = config.seed or SystemRandom().getrandbits(
            48
        )  # two gateways that were cut off together must not dial together
        self.pump = Pump(self.feeds, seed=self.seed, now=clock(), feed_of=decode_feed)
        self.journal: Journal | None = None
        self.service: Service | None = None
        self.sinks = Sinks(self, config.sinks)
        self.tracing: Tracing | None = None
        self.boxes: dict[Mailbox, list[Asked]] = {}
        self.departed = Departed()
        self.hours = MarketHours(self)
        self.started = clock()
        self.dialings = Dialings(config.feeds)
        self._reloads = reload.Reloads(self)
        self._life: Literal["new", "running", "closed"] = "new"
        self._group: asyncio.TaskGroup | None = None
        self._open = AsyncExitStack()
        self._consumers = 0
        self._flush: asyncio.TimerHandle | None = None
        self._over_at = 1 << 63  # ns; set when a drain begins
        self.on_drain: Callable[[], None] = self._stop
        self.on_restart: Callable[[str], None] = _no_restart
        """Told why, when memory is at its budget and shedding did not help. Ending the program is its owner's to decide: by default
        this is only logged, and told to all consumers."""
        self.restarts = Restarts()  # for their memory, before this process
        self.pulse = Pulse(self)
        self.driver: Driver  # these four are made on entry
        self.wants: Wants
        self._loop: asyncio.AbstractEventLoop

    def look_at_keys(self) -> None:
        """On each beat: is there another value for a credential that was refused?"""
        if self._life == "running":
            self.dialings.keys_read.look(self.pump, self.driver.command)

    def dialing(self, feed: str) -> Dialing:
        """How the connections of a feed are made."""
        return self.dialings[feed]

    def _how(self, source: str) -> Dialing:
        return self.dialings[self.pump.links[source].feed.name]

    # -- life -----------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.driver.stop()

    async def __aenter__(self) -> Self:
        if self._life != "new":
            raise RuntimeError("this gateway was entered before; make another with truetape.open(…)")
        self._life = "running"
        self._loop = asyncio.get_running_loop()
        try:
            await self._begin()
        except BaseException:
            self._life = "closed"
            await self._open.aclose()
            raise
        return self

    async def _begin(self) -> None:
        """Everything that must be undone is pushed on `_open` as soon as it is done."""
        self._refuse_missing_secrets()
        await self._instruments()
        self._open.callback(self._hang_up)  # last of all: how it is can be asked to the end
        if self.config.trace is not None:
            self.tracing = Tracing(self, self.config.trace)
            self._open.push_async_callback(self.tracing.sent)
        if self.config.journal is not None:
            self._record(self.config.journal)
        seen = None
        if self.tracing is not None:
            seen = self.tracing.seen
            self._open.callback(self.tracing.end)
        self.driver = Driver(self.pump, self._how, recorder=self.journal, redact=secrets.redact, log=_log, seen=seen)
        self.wants = Wants(self.feeds, self.pump, self.driver.command)
        if self.config.control is not None:
            control = ControlServer(Path(self.config.control.socket), self.answer)
            await control.start()
            self._open.push_async_callback(control.close)
        if self.config.serve is not None:
            self.service = Service(self, self.config.serve, f"{self.started:x}")
            await self.service.start()
            if self.tracing is not None:
                self.tracing.watch(self.service.hall)
            self._open.push_async_callback(self.service.close)
        calm.begin()
        self._open.callback(calm.end)
        self._open.callback(self.pulse.end)
        self.pulse.begin(self._loop)
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self.sinks.start(self._group)
        self._group.create_task(self._drive(self._group.create_task(self.hours.keep())))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something beside the driver, while the gateway runs; what fails in it ends the gateway."""
        assert self._group is not None, "nobody is served before it runs"
        return self._group.create_task(work)

    async def _drive(self, hours: asyncio.Task[None]) -> None:
        """Run the driver; when it ends, however that is, nobody is left waiting."""
        try:
            await self.driver.run()
        finally:
            hours.cancel()
            self._reloads.end()
            await self.sinks.drain()
            for box in list(self.boxes):
                self.release(box, "the gateway was closed")

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._life = "closed"
        self._over_at = clock() + round(DRAIN_S * 1e9)
        try:
            if self.service is not None:
                await self.service.drain()
        finally:
            self.driver.stop()
        try:
            await self._end(kind, error, trace)
        finally:
            await self._open.aclose()

    async def _end(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Wait for the driver. An error of the body stays the body's; one of the driver comes out as it is, not in a group of one."""
        assert self._group is not None, "made on entry"
        mine = isinstance(error, asyncio.CancelledError)  # perhaps the group itself cancelled the body: it knows
        try:
            await self._group.__aexit__(*((kind, error, trace) if mine else (None, None, None)))
        except BaseExceptionGroup as failed:
            only: BaseException = failed
            while isinstance(only, BaseExceptionGroup) and len(only.exceptions) == 1:
                only = only.exceptions[0]
            raise only from None

    def _refuse_missing_secrets(self) -> None:
        """A key that cannot be read now is a mistake of the configuration, told before anything is dialed."""
        for feed in self.config.feeds:
            if feed.secret:
                try:
                    secrets.Secret(feed.secret).reveal()
                except secrets.SecretError as error:
                    raise ConfigError(f"feed {feed.name}: {error}") from None

    async def _instruments(self) -> None:
        """Spell symbols by the venues' own lists where the configuration asks for that."""
        wanted = [feed.name for feed in self.config.feeds if feed.instruments]
        if wanted:
            listed = await fetch_lists([feed for feed in self.feeds if feed.name in wanted], self.dialings)
            self.feeds = resolve_all(self.config, listed)
            self.pump = Pump(self.feeds, seed=self.seed, now=clock(), feed_of=decode_feed)

    def _record(self, how: JournalConfig) -> None:
        self.journal = Journal(
            how.dir, header=Origin(
                version=truetape.__version__, venues=[feed.venue for feed in self.feeds], config=encode_feeds(self.feeds),
                seed=self.seed,
            ),
            checkpoint=lambda: checkpoint.save(self.pump), clock=clock, flush_ms=round(how.flush_ms), segment_bytes=how.segment_bytes,
            retain_bytes=how.retain_bytes, backlog_bytes=how.backlog_bytes,
            wrote=self.tracing.committed if self.tracing is not None else None,
        )  # fmt: skip
        self._open.push_async_callback(self._seal, self.journal)
        self._commit(self.journal, how.flush_ms / 1000)

    def _commit(self, journal: Journal, every_s: float) -> None:
        """Hand the batch to the writer, each `flush_ms`."""
        journal.commit(clock())
        self._flush = self._loop.call_later(every_s, self._commit, journal, every_s)

    async def _seal(self, journal: Journal) -> None:
        """What was recorded goes to disk, in a thread: a slow one shall not keep anybody from asking how we are."""
        if self._flush is not None:
            self._flush.cancel()
        journal.commit(clock())
        if not await asyncio.to_thread(journal.close, min(10.0, max(SEAL_LEAST_S, (self._over_at - clock()) / 1e9))):
            found = journal.status()
            log.warning("journal closed with records missing", reason=found.reason, flushed=found.flushed_record)

    def _hang_up(self) -> None:
        if self.service is not None:
            self.service.hang_up()

    # -- another configuration ------------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether it was entered, and does not end."""
        return self._life == "running" and not self.driver.stopped

    async def reload(self) -> dict[str, Any]:
        """Read the file again that it was begun from, as SIGHUP and `truetape reload` do. Returns `{"ok": true, "added": […], …}`, or
        `{"error": …}`, and then nothing was changed."""
        return await reload.reload(self)

    def reload_soon(self) -> asyncio.Task[dict[str, Any]] | None:
        """The same, not waited for. None where it does not run."""
        return self._reloads.soon(self._group) if self._group is not None and self.runs else None

    # -- consumers ------------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        symbols: str | Iterable[str],
        channels: str | Iterable[str] = ("book", "trade"),
        *,
        mode: Mode | None = None,
        bound: int = 1000,
        depth: int | None = None,
        name: str = "",
    ) -> Subscription:
        """Events of these symbols (`venue:SYMBOL`, `venue:*`, `*`), in your own box with your own delivery mode.

        `channels`: book (whole states to `depth`), book_delta (the changes), trade, quote, ticker, bar.1m … What no feed carries yet is
        subscribed at the venue while running, and unsubscribed when its last consumer closes. Raises ConfigError for what cannot be.
        """
        self.must_run()
        asked = self.wants.find(symbols, channels)
        self._consumers += 1
        depth_wanted = depth if depth is not None else max((feed.depth for feed in self.feeds), default=0)
        box = Mailbox(
            name or f"consumer-{self._consumers}", mode if mode is not None else drop_oldest, bound, depth_wanted
        )
        try:
            self.pump.router.subscribe(box, [one.pattern for one in asked])
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.boxes[box] = asked
        subscription = Subscription(box, self._loop, self.release, self.driver.arm_windows, self.driver.stages)
        self.driver.wakers[box] = subscription.wake
        self.wants.hold(box, asked)
        self.wants.tell(box, asked, clock())
        return subscription

    def release(self, box: Mailbox, reason: str) -> None:
        """End a consumer's box, and the venue's subscriptions that only it wanted."""
        asked = self.boxes.pop(box, None)
        if asked is None:
            return
        self.pump.router.close(box, reason)
        self.departed.left(box)
        if (waker := self.driver.wakers.pop(box, None)) is not None:
            waker()
        if self._life == "running":
            self.wants.release(box, asked)

    def must_run(self) -> None:
        """Raises RuntimeError where it does not."""
        if self._life == "new":
            raise RuntimeError("the gateway does not run yet; enter it first: async with truetape.open(…) as gw")
        if self._life == "closed":
            raise RuntimeError("the gateway was closed; make another with truetape.open(…)")

    # -- reading --------------------------------------------------------------------------------------------------------

    def stream(self, name: str, channel: str = "book") -> Stream:
        """The subscription `venue:SYMBOL` of a channel. Raises KeyError with what there is."""
        venue, _, symbol = name.partition(":")
        rows = [
            s
            for link in self.pump.links.values()
            for s in link.streams.values()
            if s.channel == channel and venue in (s.venue, link.feed.name)
        ]
        for stream in rows:
            if symbol in (stream.symbol, stream.raw):
                return stream
        known = ", ".join(sorted(f"{s.venue}:{s.symbol}" for s in rows)[:20]) or "none"
        raise KeyError(f"no {channel} of {name}: subscribed are {known}")

    def book(self, name: str, *, stale_ok: bool = False) -> BookView:
        """A window on a book; its prices raise NotLive where it cannot be believed, unless `stale_ok`."""
        return BookView(self.stream(name), stale_ok)

    async def ready(self, timeout_s: float = 10.0) -> bool:
        """Wait until every book is LIVE, or QUIET because nothing is due; False when time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                with self.subscribe("*", "book", bound=1, name="ready") as news:
                    while not all(
                        s.state in ("LIVE", "QUIET") for link in self.pump.links.values() for s in link.book_streams()
                    ):
                        await news.take()
        except (TimeoutError, Closed):
            return False
        return True

    def status(self) -> StatusTree:
        """What `truetape status` shows."""
        return StatusTree(status(self))

    def _repr_html_(self) -> str:
        """For a notebook: how every subscription is."""
        return self.status()._repr_html_()

    def answer(self, request: dict[str, Any]) -> Answer:
        """A question on the control socket."""
        return operate.answer(self, request)


def _no_restart(reason: str) -> None:
    """In somebody else's program nothing is ended for its memory."""
    log.warning("over the memory budget", reason=reason, hint="set Gateway.on_restart, or raise [memory] budget_mb")


def _log(event: str, **fields: Any) -> None:
    """What the driver says, for a program's own logs too."""
    log.info(
        event, **{key: secrets.redact(value) if isinstance(value, str) else value for key, value in fields.items()}
    )


def open_gateway(config: str | Path | dict[str, Any] | Config) -> Gateway:
    """A gateway from a TOML file, a tree of tables, or a Config; use it as `async with`."""
    if isinstance(config, Config):
        return Gateway(config)
    if isinstance(config, dict):
        return Gateway(parse(config, "config", {}))
    gateway = Gateway(load(Path(config)))
    gateway.path = Path(config).absolute()
    return gateway


__all__ = ["Closed", "Gateway", "NotLive", "Subscription", "open_gateway"]
