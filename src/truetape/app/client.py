"""A client of a gateway: the same events as in process, over a WebSocket or a Unix socket, in two ways.

    async with truetape.client("ws://127.0.0.1:8787") as c:                with truetape.client("unix:run/serve.sock") as c:
        async for event in c.subscribe("kraken:BTC-USD", ["trade"]):           for event in c.subscribe("kraken:BTC-USD", ["trade"]):

The second has no event loop of its own in sight: a thread runs one, so it works in scripts, in old strategies, and in notebooks, whose
own loop runs already. Both reconnect and resume by themselves. Next door: `hub.py` has the connections, `remote.py` is a subscription.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Literal, Self, TypeVar

import uvloop

from truetape.app import notebook
from truetape.app.hub import ClientError, Hub, Token, where_of
from truetape.app.remote import ClientSubscription
from truetape.core.feed.backoff import Jitter
from truetape.core.route.mailbox import Mode
from truetape.core.route.modes import drop_oldest
from truetape.core.serve.frames import Encoding
from truetape.core.serve.intake import Intake
from truetape.core.serve.reader import State, Timing
from truetape.model.event import Ledger
from truetape.model.wire import Subscribe

T = TypeVar("T")
WORST: tuple[State, ...] = ("ended", "waiting", "dialing", "greeting", "authenticating", "subscribing", "idle", "live")


class Client:
    """Connections to one gateway; enter it with `async with`, or with `with` (or `open` and `close`) where there is no event loop."""

    def __init__(self, make: Callable[[], Hub], shown: str, keep: int) -> None:
        self._make = make
        self._shown = shown
        self._keep = keep
        self._hub: Hub | None = None
        self._thread: _Thread | None = None
        self._count = 0

    # -- life -----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._must_be_new()
        hub = self._make()
        await hub.open()
        self._hub = hub
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._hub is not None:
            hub, self._hub = self._hub, None
            await hub.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Self:
        """As `with` does, for notebooks. Raises ClientError."""
        self._must_be_new()
        thread = _Thread(self._make)
        self._hub = thread.begin()
        self._thread = thread
        return self

    def close(self) -> None:
        """End what `open` began: all subscriptions, and the thread."""
        thread, self._thread, self._hub = self._thread, None, None
        if thread is not None:
            thread.end()

    def _must_be_new(self) -> None:
        if self._hub is not None:
            raise RuntimeError("this client is open already; make another with truetape.client(…)")

    # -- subscriptions --------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        symbols: str | Iterable[str],
        channels: str | Iterable[str] = ("book", "trade"),
        *,
        mode: Mode | None = None,
        bound: int = 1000,
        depth: int = 0,
        keep: int | None = None,
        timeout_s: float | None = None,
        name: str = "",
    ) -> ClientSubscription:
        """Events of these symbols (`venue:SYMBOL`, `venue:*`, `*`), in a box of your own on both sides, with your own delivery mode.

        `channels`, `mode`, `bound` and `depth` are those of `gw.subscribe`. `keep`: so many of the last events are kept for `last` and
        tables, taken or not. `timeout_s`: waiting longer for one raises TimeoutError; you may go on afterwards. What the gateway refuses
        is raised as ClientError by the first wait.
        """
        if self._hub is None:
            raise RuntimeError("this client is not open; enter it first: with truetape.client(…) as c, or async with")
        self._count += 1
        chosen = mode if mode is not None else drop_oldest
        want = _want(symbols, channels, chosen, bound, depth)
        label = name or f"{','.join(want.symbols[:3])} {','.join(want.channels)}"
        intake = Intake(label, chosen, bound, self._keep if keep is None else keep)
        call = self._thread.call if self._thread is not None else None
        return ClientSubscription(self._hub, want, intake, call, timeout_s)

    # -- reading --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """That of the connection that is worst off: `live` where all stand."""
        uplinks = list(self._hub.uplinks) if self._hub is not None else []
        return min((uplink.reader.state for uplink in uplinks), key=WORST.index, default="ended")

    @property
    def reconnects(self) -> int:
        """How often connections were made anew."""
        if self._hub is None:
            return 0
        return self._hub.ended + sum(uplink.reader.reconnects for uplink in list(self._hub.uplinks))

    def __repr__(self) -> str:
        return f"<truetape client of {self._shown}: {self.state if self._hub is not None else 'not open'}>"

    def _repr_html_(self) -> str:
        """For a notebook: every subscription with its ledger."""
        state = self.state if self._hub is not None else "not open"
        caption = f"truetape client of {self._shown}: {state}, {self.reconnects} reconnects"
        rows: list[tuple[str, str, int, Ledger]] = []
        for uplink in list(self._hub.uplinks) if self._hub is not None else []:
            if (intake := uplink.intake) is not None:
                with uplink.lock:
                    rows.append((intake.box.name, uplink.reader.state, uplink.reader.reconnects, intake.ledger))
        return notebook.of_subscriptions(caption, rows)


class _Thread:
    """A hub with a loop in a thread of its own."""

    def __init__(self, make: Callable[[], Hub]) -> None:
        self._make = make
        self._opened: Future[Hub] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        # a daemon: a program that ends without `close` ends
        self._thread = threading.Thread(target=self._main, name="truetape-client", daemon=True)

    def begin(self) -> Hub:
        """Start, and wait until the gateway has answered. Raises ClientError."""
        self._thread.start()
        try:
            return self._opened.result()
        except BaseException:
            self.end()  # Ctrl-C while it dials
            raise

    def call(self, do: Callable[[], T]) -> T:
        """Do something in the loop, and wait for it. Raises ClientError where the thread is gone."""
        done: Future[T] = Future()

        def act() -> None:
            try:
                done.set_result(do())
            except BaseException as error:  # noqa: BLE001  it is the caller's
                done.set_exception(error)

        self.soon(act)
        return done.result()

    def soon(self, do: Callable[[], object]) -> None:
        """Do something in the loop."""
        try:
            if self._loop is None:
                raise RuntimeError
            self._loop.call_soon_threadsafe(do)
        except RuntimeError:
            raise ClientError("this client was closed") from None

    def end(self) -> None:
        """Stop, and wait for it."""
        stop = self._stop
        if stop is not None:
            try:
                self.soon(stop.set)
            except ClientError:
                pass  # it has ended
        if self._thread is not threading.current_thread():
            self._thread.join(10)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        hub = self._make()
        try:
            await hub.open()
        except BaseException as error:  # noqa: BLE001  raised by `begin`, in the thread of whoever opens
            self._opened.set_exception(error)
            return
        self._opened.set_result(hub)
        await self._stop.wait()
        await hub.close()


def _want(symbols: str | Iterable[str], channels: str | Iterable[str], mode: Mode, bound: int, depth: int) -> Subscribe:
    names = [symbols] if isinstance(symbols, str) else list(symbols)
    words = [channels] if isinstance(channels, str) else list(channels)
    ms = mode.ns / 1e6
    more = {"conflate_ms": ms} if mode.name == "conflate" else {"max_age_ms": ms} if mode.name == "max_age" else {}
    return Subscribe(id=0, symbols=names, channels=words, mode=mode.name, bound=bound, depth=depth, **more)  # type: ignore[arg-type]


def open_client(
    url: str,
    *,
    token: Token = None,
    encoding: Literal["msgpack", "json"] = "msgpack",
    ca_file: str | Path | None = None,
    ssl_context: ssl.SSLContext | None = None,
    keep: int = 0,
    connect_s: float = 10.0,
    backoff_first_s: float = 0.25,
    backoff_max_s: float = 10.0,
    jitter: Jitter = 0.3,
    ping_every_s: float = 5.0,
    pong_within_s: float = 5.0,
) -> Client:
    """A client of the gateway at `ws://host:port`, `wss://host:port` (`ca_file`: certificates to believe) or `unix:/path`.

    `token`: the text, `env:NAME`, `file:/path`, or a function; all but the text are asked anew at each dial, and before one expires. Opening
    raises ClientError where nobody answers within `connect_s`; afterwards a lost connection is made again for as long as it takes, at waits
    of `backoff_first_s` doubling to `backoff_max_s`, or when the gateway says. A gateway that has said nothing for `ping_every_s` is
    asked, and given up `pong_within_s` later. `keep`: how many of the last events each subscription remembers.
    """
    where = where_of(url, ca_file, ssl_context)
    timing = Timing(
        backoff_first_s=backoff_first_s, backoff_max_s=backoff_max_s, jitter=jitter, ping_every_s=ping_every_s, pong_within_s=pong_within_s
    )  # fmt: skip
    if encoding not in ("msgpack", "json"):
        raise ValueError(f"expected encoding msgpack or json, found {encoding!r}")
    spoken: Encoding = encoding
    return Client(lambda: Hub(where, token, spoken, timing, connect_s), where.name, keep)
