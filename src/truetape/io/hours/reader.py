"""Starts the child that reads calendars, with a limit of time, and takes what it printed."""

from __future__ import annotations

import asyncio
import sys

import msgspec
from msgspec import Struct

from truetape.core.feed.hours import Table

WITHIN_S = 60.0
"""For a child that imports pandas on a busy machine."""


class Answer(Struct, frozen=True):
    """What the child said: tables, and why some could not be had."""

    tables: list[Table] = []
    errors: dict[str, str] = {}


async def read(markets: list[str], days: int, today_s: int, *, within_s: float = WITHIN_S) -> Answer:
    """The sessions of these markets for so many days around a moment (seconds since 1970).

    What fails is told in `errors`; nothing is raised but a cancel, which ends the child.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "truetape.io.hours.child", str(days), str(today_s), *markets,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(within_s):
            said, cried = await child.communicate()
        if child.returncode:
            last = cried.decode("utf-8", "replace").strip().rpartition("\n")[2]
            return _failed(markets, f"the child ended with {child.returncode}: {last[:300]}")
        return msgspec.json.decode(said, type=Answer)
    except TimeoutError:
        return _failed(markets, f"the child gave no answer within {within_s:g} s")
    except msgspec.MsgspecError as error:
        return _failed(markets, f"the child's answer cannot be read: {error}")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def _failed(markets: list[str], why: str) -> Answer:
    return Answer([], dict.fromkeys(markets, why))
