"""`truetape top`: the page in a terminal. Asks the control socket, or a gateway elsewhere by its address; keys move and quit.

Next door: `top_screen.py` draws.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import termios
import time
import tty
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
from rich.console import Console
from rich.live import Live

import truetape
from truetape.app import secrets
from truetape.app.cli.page import page
from truetape.app.cli.top_screen import View, frame
from truetape.app.config import ConfigError
from truetape.app.hub import ClientError
from truetape.app.remote import ClientSubscription
from truetape.app.subscription import Closed
from truetape.core.route.modes import conflate
from truetape.io.clock import now as clock
from truetape.io.serve.control import ControlError, ask
from truetape.model.event import Book

SECOND = 1_000_000_000
ASK_S = 1.0
DRAW_S = 0.25
DEPTH = 20
ONE_LOOK = 40
"""Lines of what is printed where there is no terminal."""
STEPS = {"\x1b[A": -1, "k": -1, "\x1b[B": 1, "j": 1, "\x1b[5~": -10, "\x1b[6~": 10, "\x1b[H": -(10**6), "\x1b[F": 10**6}
QUIT = ("q", "\x03", "\x04")


class Source(Protocol):
    """Where the figures come from. Entered with `async with`."""

    async def __aenter__(self) -> Source:
        """Open what it needs."""

    async def __aexit__(self, *_: object) -> None:
        """Let go of it."""

    async def look(self, view: View) -> None:
        """Bring it up to date. Raises ControlError."""


class Local:
    """A gateway of this machine, by its control socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def __aenter__(self) -> Source:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held open."""

    async def look(self, view: View) -> None:
        """See `Source`."""
        view.tree = await asyncio.to_thread(ask, self._socket, {"do": "status"})
        if (row := view.chosen()) is not None:
            name = f"{row['venue']}:{row['symbol']}"
            view.book = {"name": name} | await asyncio.to_thread(
                ask, self._socket, {"do": "book", "name": name, "depth": DEPTH}
            )


class Remote:
    """A gateway elsewhere: its GETs for the figures, its stream for the book under the cursor."""

    def __init__(self, url: str, token: str, ca_file: Path | None = None) -> None:
        scheme, _, rest = url.partition("://")
        if scheme not in ("ws", "wss", "http", "https") or not rest:
            raise ConfigError(f"--url: expected ws://host:port, wss://, http:// or https://, found {url!r}")
        secure = scheme in ("wss", "https")
        host = rest.partition("/")[0]
        self._http = f"http{'s' if secure else ''}://{host}"
        self._ws = f"ws{'s' if secure else ''}://{host}"
        self._token = token
        try:
            self._client = truetape.client(self._ws, token=token or None, ca_file=ca_file)
            self._ssl = ssl.create_default_context(cafile=ca_file) if secure else None
        except (ValueError, OSError) as error:
            raise ConfigError(f"--ca-file: {error}") from None
        self._books: ClientSubscription | None = None
        self._book: Book | None = None
        self._name = ""

    async def __aenter__(self) -> Source:
        try:
            await self._client.__aenter__()
        except ClientError as error:
            raise ControlError(str(error)) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__(*_)

    async def look(self, view: View) -> None:
        """See `Source`."""
        view.tree = await asyncio.to_thread(self._get, "/status")
        rows = await asyncio.to_thread(self._get, "/clients")
        view.clients = [_summed(row) for row in rows]
        row = view.chosen()
        if row is None:
            return
        name = f"{row['venue']}:{row['symbol']}"
        has = any(
            (one["venue"], one["symbol"], one["channel"]) == (row["venue"], row["symbol"], "book")
            for one in view.rows()
        )
        if name != self._name:
            self._name, self._book = name, None
            if self._books is not None:
                self._books.close()
            self._books = self._client.subscribe(name, ["book"], mode=conflate(ms=200), depth=DEPTH) if has else None
        if self._books is not None:
            await self._take(self._books)
        bids, asks = (self._book.bids, self._book.asks) if self._book is not None else ([], [])
        view.book = {"name": name, "state": row["state"], "bids": bids, "asks": asks}

    async def _take(self, books: ClientSubscription) -> None:
        """The latest book, as far as there is one now; the first may take a moment."""
        with suppress(TimeoutError, Closed):
            async with asyncio.timeout(0.1 if self._book is not None else 1.0):
                for event in await books.take():
                    if isinstance(event, Book):
                        self._book = event

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(self._http + path)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=5, context=self._ssl) as answer:
                return msgspec.json.decode(answer.read())
        except urllib.error.HTTPError as error:
            raise ControlError(
                f"{self._http}{path}: {error.code} {error.read(200).decode('utf-8', 'replace').strip()}"
            ) from None
        except (OSError, msgspec.DecodeError) as error:
            raise ControlError(f"{self._http}{path}: no gateway answers there ({error})") from None


def _summed(row: dict[str, Any]) -> dict[str, Any]:
    """A client's subscriptions as one ledger."""
    names = ("received", "delivered", "conflated", "dropped", "expired", "queued")
    return {"name": f"{row['name'] or '(no token yet)'} #{row['number']}"} | {
        name: sum(one[name] for one in row["subscriptions"]) for name in names
    }


def compare(view: View, before: dict[str, Any]) -> None:
    """What happened between two looks, as events: changes of state, reconnects, another gateway."""
    if not before:
        return
    at = time.strftime("%H:%M:%S")
    tree = view.tree
    if tree["started"] != before["started"]:
        view.events.appendleft((at, "RESYNC", "the gateway was restarted"))
        return
    links = {row["name"]: row for row in before["connections"]}
    for row in tree["connections"]:
        old = links.get(row["name"])
        if old is not None and (old["state"], old["reconnects"]) != (row["state"], row["reconnects"]):
            words = f"{row['name']}: {old['state']} → {row['state']} {row['reason']}, {row['reconnects']} reconnects"
            view.events.appendleft((at, "LIVE" if row["state"] == "OPEN" else "GAP", words))
    buses = {row["name"]: row["state"] for row in before.get("sinks", [])}
    for row in tree.get("sinks", []):
        if (was := buses.get(row["name"])) is not None and was != row["state"]:
            why = f" {row['last_error']}" if row["state"] == "DOWN" else ""
            words = f"sink {row['name']}: {was} → {row['state']}{why}"
            view.events.appendleft((at, "LIVE" if row["state"] == "UP" else "GAP", words))
    states = {(row["venue"], row["symbol"], row["channel"]): row["state"] for row in before["subscriptions"]}
    for row in tree["subscriptions"]:
        was = states.get((row["venue"], row["symbol"], row["channel"]))
        if was is not None and was != row["state"] and (was, row["state"]) != ("SYNCING", "LIVE"):
            words = f"{row['venue']}:{row['symbol']}/{row['channel']} {was} → {row['state']} {row['reason']}"
            view.events.appendleft((at, row["state"], words))


def press(view: View, key: str) -> bool:
    """Follow a key; False: quit."""
    if key in QUIT:
        return False
    rows = view.rows()
    if key in STEPS:
        view.at = max(0, min(len(rows) - 1, view.at + STEPS[key]))
    elif key == "w":
        view.worst_first = not view.worst_first
        view.at = 0
    elif key == "n":
        bad = [index for index, row in enumerate(rows) if row["state"] not in ("LIVE", "QUIET")]
        view.at = next((index for index in bad if index > view.at), bad[0] if bad else view.at)
    return True


def keys(text: str) -> Iterator[str]:
    """What was typed, key by key."""
    while text:
        key = next((key for key in STEPS if len(key) > 1 and text.startswith(key)), text[0])
        yield key
        text = text[len(key) :]


@contextmanager
def raw(listen: Callable[[str], None]) -> Iterator[None]:
    """Keys at once and without echo, as long as stdin is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    kept = termios.tcgetattr(fd)
    loop = asyncio.get_running_loop()
    tty.setcbreak(fd)
    loop.add_reader(fd, lambda: listen(os.read(fd, 1024).decode("utf-8", "replace")))
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, kept)


async def _watch(source: Source, seconds: float) -> int:
    view, console = View(), page()
    async with source:
        await source.look(view)  # the first refusal ends it, with what to do
        if not console.is_terminal:
            console.print(frame(view, console.width, ONE_LOOK), height=ONE_LOOK)
            return 0
        screen = Screen(view)
        async with asyncio.TaskGroup() as group:
            group.create_task(screen.ask(source))
            await screen.show(console, seconds)
        return screen.code


class Screen:
    """What a terminal shows until it is ended: one task asks, one draws, keys come in between."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.code = 0
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()

    def end(self, code: int) -> None:
        """Quit with this code."""
        self.code = code
        self._ended.set()
        self._changed.set()

    def typed(self, text: str) -> None:
        """Keys were pressed."""
        if not all(press(self.view, key) for key in keys(text)):
            self.end(0)
        self._changed.set()

    async def ask(self, source: Source) -> None:
        """Look once a second."""
        view = self.view
        while not self._ended.is_set():
            before = view.tree
            try:
                await source.look(view)
                view.trouble = ""
                compare(view, before)
            except (ControlError, ClientError) as error:
                view.trouble = str(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_S):
                    await self._ended.wait()

    async def show(self, console: Console, seconds: float) -> None:
        """Draw until it is ended, or so many seconds are over."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.end, 130)
        loop.add_signal_handler(signal.SIGTERM, self.end, 0)
        until = clock() + round(seconds * SECOND) if seconds else None
        with raw(self.typed), Live(console=console, auto_refresh=False, screen=True) as live:
            while not self._ended.is_set() and (until is None or clock() < until):
                live.update(frame(self.view, console.width, console.height), refresh=True)
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(DRAW_S):
                        await self._changed.wait()
        self.end(self.code)


def top(url: str, socket: Path, token: str, ca_file: Path | None, seconds: float) -> int:
    """Until `q` or SIGTERM (0), Ctrl-C (130) or the given time (0); without a terminal one look. Raises ControlError, ConfigError."""
    if token.startswith(("env:", "file:")):
        token = secrets.Secret(token).reveal()
    source: Source = Remote(url, token, ca_file) if url else Local(socket)
    return asyncio.run(_watch(source, seconds))
