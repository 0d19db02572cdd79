"""`truetape symbols`: what a venue trades, in our spelling and its own."""

from __future__ import annotations

import asyncio
import sys
from fnmatch import fnmatchcase

import msgspec

from truetape.app.cli.page import figure
from truetape.app.dialects import dialect
from truetape.io.net.http import Getter


def symbols(venue: str, pattern: str, rest_url: str, as_json: bool) -> int:
    """0 with a list, 1 where the venue could not be asked."""
    kind = dialect(venue)
    url = kind.instruments_url(rest_url or kind.rest_url)
    if url is None:
        print(f"truetape: {venue} publishes no list of instruments; its own spelling is used as it is", file=sys.stderr)
        return 1

    async def fetch() -> tuple[int, bytes]:
        getter = Getter(30.0)
        try:
            answer = await getter.get(url)
        finally:
            await getter.close()
        return answer.status, answer.body

    status, body = asyncio.run(fetch())
    if status != 200:
        why = body[:200].decode("utf-8", "replace") if status == 0 else f"HTTP {status}"
        print(f"truetape: {url}: expected a list of instruments, found {why}", file=sys.stderr)
        return 1
    try:
        rows = kind.decode_instruments(body)
    except (msgspec.DecodeError, ValueError) as error:
        print(f"truetape: {url}: expected a list of instruments: {error}", file=sys.stderr)
        return 1
    wanted = pattern.upper() if "*" in pattern else f"*{pattern.upper()}*"
    found = [
        row
        for row in sorted(rows, key=lambda row: row.symbol)
        if fnmatchcase(row.symbol.upper(), wanted) or fnmatchcase(row.raw.upper(), wanted)
    ]
    if as_json:
        print(
            msgspec.json.encode(
                [{"id": f"{kind.name}:{row.symbol}", **msgspec.to_builtins(row)} for row in found]
            ).decode()
        )
    else:
        for row in found:
            print(
                f"{kind.name}:{row.symbol:24} {row.raw:24} tick {figure(row.tick)} lot {figure(row.lot)} {row.status}".rstrip()
            )
        print(f"{len(found)} of {len(rows)}", file=sys.stderr)
    return 0
