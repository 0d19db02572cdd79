"""The gateway in process: configuration in, books and subscriptions out, over real sockets.

    async with truetape.open("gateway.toml") as gw:
        async for event in gw.subscribe("binance:BTC-USDT", ["book", "trade"], mode=truetape.conflate(ms=2)):
            ...

Everything runs on the caller's event loop: one pump, one driver, one TaskGroup. What fails inside ends the `async with` with the error.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

import truetape
from truetape.app import secrets, tls
from truetape.app.config import Config, ConfigError, FeedConfig, load, parse
from truetape.app.header import encode_feeds
from truetape.app.status import status
from truetape.app.symbols import channel, resolve, resolve_all
from truetape.app.view import BookView, NotLive
from truetape.core.feed.health import Stream
from truetape.core.feed.plan import Feed
from truetape.core.feed.venue import Want
from truetape.core.route import checkpoint
from truetape.core.route.mailbox import Mailbox, Mode
from truetape.core.route.modes import drop_oldest
from truetape.core.route.pump import Order, Pump
from truetape.io.clock import now as clock
from truetape.io.net.driver import Dialing, Driver
from truetape.io.net.http import Getter
from truetape.io.obs import log
from truetape.io.serve.control import ControlServer
from truetape.io.store.journal import Journal, Origin
from truetape.model.event import Ledger, Market
from truetape.model.instrument import Instrument

BATCH = 256


class Closed(Exception):
    """A subscription ended: it was closed, or its mode is `disconnect` and it fell behind."""


class Subscription:
    """An async iterator over one mailbox. Iterate, or `await take()` for batches; `close()` or leave the `async for` to end it."""

    def __init__(self, gateway: Gateway, box: Mailbox, patterns: list[tuple[str, str, str]]) -> None:
        self._gateway = gateway
        self._box = box
        self._patterns = patterns
        self._ready = asyncio.Event()
        self._batch: list[Market] = []
        gateway.driver.wakers[box] = self._ready.set

    def __aiter__(self) -> AsyncIterator[Market]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Market]:
        try:
            while True:
                for event in await self.take():
                    yield event
        except Closed:
            return

    async def take(self, most: int = BATCH) -> list[Market]:
        """The next events, at least one; waits for them. Raises Closed at the end."""
        while True:
            self._ready.clear()
            events = self._box.take(most, clock())
            if events:
                return events
            if self._box.closed_reason is not None:
                raise Closed(self._box.closed_reason)
            self._gateway.driver.arm()
            await self._ready.wait()

    @property
    def ledger(self) -> Ledger:
        """received = delivered + conflated + dropped + expired + queued, exact now."""
        return self._box.ledger()

    def close(self, reason: str = "closed by its consumer") -> None:
        """End it; what is queued is counted as dropped."""
        self._gateway.release(self._box, reason)


class Gateway:
    """A running gateway. Make one with `truetape.open(...)`."""

    def __init__(self, config: Config, *, name: str = "gateway") -> None:
        self.config = config
        self.name = name
        self.feeds: list[Feed] = resolve_all(config)
        self.pump = Pump(self.feeds, seed=config.seed, now=clock())
        self.journal: Journal | None = None
        self.boxes: dict[Mailbox, list[tuple[str, str, str]]] = {}
        self.started = clock()
        self._by_name = {feed.name: feed for feed in self.feeds}
        self._configs = {feed.name: feed for feed in config.feeds}
        self._dialing = {feed.name: _dialing(feed) for feed in config.feeds}
        self._group: asyncio.TaskGroup | None = None
        self._control: ControlServer | None = None
        self._consumers = 0
        self._thresholds = gc.get_threshold()
        self._flush: asyncio.TimerHandle | None = None
        self.on_drain: Callable[[], None] = self._stop
        self.driver: Driver  # made on entry

    def _how(self, source: str) -> Dialing:
        return self._dialing[self.pump.links[source].feed.name]

    # -- life -----------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.driver.stop()

    async def __aenter__(self) -> Self:
        await self._instruments()
        self._refuse_missing_secrets()
        if self.config.journal is not None:
            self._record(self.config.journal)
        self.driver = Driver(self.pump, self._how, recorder=self.journal, redact=secrets.redact, log=log.info)
        if self.config.control is not None:
            self._control = ControlServer(Path(self.config.control.socket), self.answer)
            await self._control.start()
        self._quiet_gc()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._group.create_task(self.driver.run())
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.driver.stop()
        for box in list(self.boxes):
            self.release(box, "the gateway was closed")
        try:
            if self._group is not None:
                await self._group.__aexit__(kind, error, trace)
        finally:
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()
            if self._flush is not None:
                self._flush.cancel()
            if self._control is not None:
                await self._control.close()
            if self.journal is not None:
                self.journal.commit(clock())
                self.journal.close(10.0)

    def _quiet_gc(self) -> None:
        """What lives now is not looked at again; collections come late, for the hot path makes no cycles. Undone on exit."""
        gc.collect()
        gc.freeze()
        self._thresholds = gc.get_threshold()
        gc.set_threshold(200_000, 100, 1000)

    def _refuse_missing_secrets(self) -> None:
        """A key that cannot be read now is a mistake of the configuration, told before anything is dialed."""
        for feed in self.config.feeds:
            if feed.secret:
                try:
                    secrets.Secret(feed.secret).reveal()
                except secrets.SecretError as error:
                    raise ConfigError(f"feed {feed.name}: {error}") from None

    async def _instruments(self) -> None:
        """Fetch the venues' lists where the configuration asks for them, so that symbols are spelled by the venue and not by rule."""
        wanted = [feed for feed in self.config.feeds if feed.instruments]
        if not wanted:
            return
        getter = Getter()
        listed: dict[str, list[Instrument]] = {}
        try:
            for feed in wanted:
                kind = self._by_name[feed.name].dialect
                url = kind.instruments_url(feed.rest_url or kind.rest_url)
                if url is None:
                    continue
                answer = await getter.get(url)
                if answer.status == 200:
                    listed[feed.name] = kind.decode_instruments(answer.body)
                else:
                    log.warning("instruments not fetched", feed=feed.name, status=answer.status)
        finally:
            await getter.close()
        self.feeds = resolve_all(self.config, listed)
        self._by_name = {feed.name: feed for feed in self.feeds}
        self.pump = Pump(self.feeds, seed=self.config.seed, now=clock())

    def _record(self, how: Any) -> None:
        self.journal = Journal(
            how.dir, header=Origin(
                version=truetape.__version__, venues=[feed.venue for feed in self.feeds], config=encode_feeds(self.feeds),
                seed=self.config.seed,
            ),
            checkpoint=lambda: checkpoint.save(self.pump), clock=clock, flush_ms=how.flush_ms, segment_bytes=how.segment_bytes,
            retain_bytes=how.retain_bytes, backlog_bytes=how.backlog_bytes,
        )  # fmt: skip
        self._commit()

    def _commit(self) -> None:
        """Hand the batch to the writer, each `flush_ms`."""
        if self.journal is not None and self.config.journal is not None:
            self.journal.commit(clock())
            self._flush = asyncio.get_running_loop().call_later(self.config.journal.flush_ms / 1000, self._commit)

    # -- consumers ------------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        symbols: str | Iterable[str],
        channels: Sequence[str] = ("book", "trade"),
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
        patterns: list[tuple[str, str, str]] = []
        for text in [symbols] if isinstance(symbols, str) else symbols:
            patterns += self._patterns(text, channels)
        self._consumers += 1
        depth_wanted = depth if depth is not None else max((feed.depth for feed in self.feeds), default=0)
        box = Mailbox(
            name or f"consumer-{self._consumers}", mode if mode is not None else drop_oldest, bound, depth_wanted
        )
        self.boxes[box] = patterns
        self.pump.router.subscribe(box, patterns)
        return Subscription(self, box, patterns)

    def release(self, box: Mailbox, reason: str) -> None:
        """End a consumer's box, and the venue's subscriptions that only it wanted."""
        patterns = self.boxes.pop(box, None)
        if patterns is None:
            return
        self.pump.router.close(box, reason)
        if (waker := self.driver.wakers.pop(box, None)) is not None:
            waker()
        for kind, venue, symbol in patterns:
            self._unwant(kind, venue, symbol)

    def _patterns(self, text: str, channels: Sequence[str]) -> list[tuple[str, str, str]]:
        if text == "*":
            return [(word.partition(".")[0], "*", "*") for word in channels]
        venue, _, symbol = text.partition(":")
        feed = self._feed(venue, text)
        if symbol == "*":
            return [(word.partition(".")[0], feed.label, "*") for word in channels]
        found = resolve(symbol, feed.dialect, feed.url)
        known = {want.raw: want.symbol for want in feed.wants}
        canonical = known.get(found.raw, found.symbol)
        patterns = []
        for word in channels:
            upstream = "book" if word == "book_delta" else word
            try:
                ours = channel(upstream, feed.dialect)
            except ValueError as error:
                raise ConfigError(f"{text}: {error}") from None
            self._want(feed, Want(ours, found.raw, canonical, feed.depth if ours == "book" else 0))
            patterns.append(("book_delta" if word == "book_delta" else ours.partition(".")[0], feed.label, canonical))
        return patterns

    def _feed(self, venue: str, text: str) -> Feed:
        for feed in self.feeds:
            if venue in (feed.label, feed.name):
                return feed
        labels = ", ".join(feed.label for feed in self.feeds)
        raise ConfigError(f"{text}: expected a symbol as venue:SYMBOL with a venue of {labels}, found {venue!r}")

    def _want(self, feed: Feed, want: Want) -> None:
        links = [link for link in self.pump.links.values() if link.feed.name == feed.name]
        if any((want.channel, want.raw) in link.streams for link in links):
            return
        link = min(links, key=lambda link: len(link.streams))
        self.driver.command(msgspec.json.encode(Order("want", link.source, [want])))

    def _unwant(self, kind: str, venue: str, symbol: str) -> None:
        if any(row == (kind, venue, symbol) for rows in self.boxes.values() for row in rows):
            return
        for link in self.pump.links.values():
            configured = {(want.channel, want.raw) for want in link.feed.wants}
            gone = [
                stream.want
                for key, stream in link.streams.items()
                if link.label == venue
                and stream.symbol == symbol
                and stream.channel.partition(".")[0] == kind
                and key not in configured
            ]
            if gone:
                self.driver.command(msgspec.json.encode(Order("unwant", link.source, gone)))

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
        """Wait until every book is LIVE; False when time ran out."""
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup():
                box = self.subscribe("*", ["book"], mode=drop_oldest, bound=1, name="ready")
                try:
                    while not all(s.state == "LIVE" for link in self.pump.links.values() for s in link.book_streams()):
                        await box.take()
                finally:
                    box.close()
        except TimeoutError:
            return False
        return True

    def status(self) -> dict[str, Any]:
        """What `truetape status` shows."""
        return status(self)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """A question on the control socket."""
        match request.get("do"):
            case "status":
                return self.status()
            case "drain":
                self.on_drain()
                return {"ok": True}
            case other:
                return {"error": f"expected do = status or drain, found {other!r}"}


def _dialing(feed: FeedConfig) -> Dialing:
    secret = secrets.Secret(feed.secret).reveal if feed.secret else None
    timing = {
        name: value for name in ("handshake_s", "dial_s", "close_s") if (value := getattr(feed, name)) is not None
    }
    return Dialing(
        secret=secret,
        proxy=feed.proxy or None,
        ssl_context=tls.context(feed.ca_file) if feed.ca_file else None,
        **timing,
    )


def open_gateway(config: str | Path | dict[str, Any] | Config) -> Gateway:
    """A gateway from a TOML file, a tree of tables, or a Config; use it as `async with`."""
    if isinstance(config, Config):
        return Gateway(config)
    if isinstance(config, dict):
        return Gateway(parse(config, "config", {}))
    return Gateway(load(Path(config)))


__all__ = ["Closed", "Gateway", "NotLive", "Subscription", "open_gateway"]
