"""The real program, in which one place fails as libraries do, with every secret in the error: `python -m tests.app.saboteur PLACE run …`.

What fails is never ours: the socket library, the HTTP client, the token library, the bus, the disk. Each error carries all that the place
knows, in its text and in the locals of its frames, and every traceback that anybody makes shows locals.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import logging
import os
import sys
import traceback
from typing import Any

SECRETS = [value for name, value in os.environ.items() if name.startswith("SABOTEUR_")]


class Forced(RuntimeError):
    """Nothing that anybody expects."""


def fail(*known: object, **more: object) -> Any:
    """In the place of something that works."""
    everything = [*SECRETS, *map(repr, known), *map(repr, more.values())]
    raise Forced(f"forced: {everything}")


async def fail_later(*known: object, **more: object) -> Any:
    """The same, of a coroutine."""
    fail(*known, **more)


def sabotage(place: str) -> None:
    """Put a failure there."""
    match place:
        case "dial":
            import truetape.io.net.dial

            truetape.io.net.dial.ws_connect = fail_later  # type: ignore[assignment]
        case "fetch":
            import aiohttp

            aiohttp.ClientSession.get = fail  # type: ignore[method-assign]
        case "token":
            import jwt

            jwt.decode = fail
        case "sink":
            import redis.asyncio

            redis.asyncio.Connection.connect = fail_later  # type: ignore[method-assign]
        case "disk":
            after(1.0, lambda: setattr(os, "fdatasync", fail))
        case "config":
            import tomllib

            SECRETS.clear()  # nobody has asked for them yet
            tomllib.loads = tomllib.load = fail
        case "collected":
            asyncio.get_event_loop_policy().set_event_loop(None)

            class Grave:
                def __del__(self) -> None:
                    fail()

            kept: list[Grave] = [Grave()]
            after(1.0, kept.clear)
        case "callback":
            after(1.0, fail)
        case "thread":
            import threading

            after(1.0, lambda: threading.Thread(target=fail).start())


def after(seconds: float, do: Any) -> None:
    """In the program's own loop, once it runs."""
    first = asyncio.Runner.run

    @functools.wraps(first)
    def run(self: asyncio.Runner, coroutine: Any, **options: Any) -> Any:
        self.get_loop().call_later(seconds, do)
        return first(self, coroutine, **options)

    asyncio.Runner.run = run  # type: ignore[method-assign]


def main() -> None:
    """PLACE and the command line."""
    faulthandler.enable()
    logging.basicConfig(level=logging.DEBUG)
    logging.getLogger("x").debug("DEBUG is on")
    shown = traceback.TracebackException.__init__
    traceback.TracebackException.__init__ = functools.partialmethod(shown, capture_locals=True)  # type: ignore[assignment]
    sabotage(sys.argv.pop(1))
    from truetape.app.cli.main import main

    main()


if __name__ == "__main__":
    main()
