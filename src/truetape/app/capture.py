"""Captures: gzip'd or plain JSON lines of what somebody recorded from a venue, read into the pump and watched.

One line is `{"t": ns, "dir": "in"|"out"|"open"|"http", "conn", "url", "data"}`, or `b64` and `enc` (`gzip`, `deflate-raw`) in
place of `data` for binary frames.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from truetape.app.dialects import Names, by_url, dialect
from truetape.core.feed.plan import Feed
from truetape.core.route.pump import Pump


class BadInput(Exception):
    """A file that cannot be replayed: what was expected, what was found, where, and what to do."""


class Line(Struct):
    """One line of a capture."""

    t: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
    dir: str
    conn: str = ""
    url: str = ""
    data: str | None = None
    b64: str | None = None
    enc: str = ""

    def payload(self) -> bytes:
        """The message as the venue meant it, unpacked. Raises ValueError or zlib.error on damaged binary data."""
        if self.b64 is None:
            return (self.data or "").encode()
        packed = base64.b64decode(self.b64, validate=True)
        if self.enc == "gzip":
            return gzip.decompress(packed)
        if self.enc == "deflate-raw":
            return zlib.decompress(packed, -zlib.MAX_WBITS)
        return packed


_LINES = msgspec.json.Decoder(Line)


def lines(path: Path, progress: Callable[[int], None] | None = None) -> Iterator[Line]:
    """Every line in order; BadInput names the file and line that is none. `progress` is told how many bytes of the file are read."""
    number = 0
    try:
        with path.open("rb") as raw, gzip.open(raw, "rb") if path.suffix == ".gz" else raw as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield _LINES.decode(text)
                if progress is not None and not number & 4095:
                    progress(raw.tell())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} line {number}: expected a capture line {{t, dir, conn, data}}, found: {error}"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} after line {number}: cannot be read: {error}") from None


def find_venue(path: Path) -> str:
    """The venue of a capture, from the first URL that one knows; BadInput where none does."""
    urls: list[str] = []
    for line in lines(path):
        if line.url:
            if (venue := by_url(line.url)) is not None and line.dir == "open":
                return venue
            urls.append(line.url)
        if len(urls) > 200:
            break
    found = urls[0] if urls else "no URL at all"
    raise BadInput(f"{path}: expected a URL of a known venue, found {found}; name it with --venue")


class Observer:
    """Feeds capture lines to a pump; counts what came."""

    def __init__(self, venue: str, *, flow: bool = True) -> None:
        self.venue = venue
        self.pump = Pump(flow=flow)
        self.records = 0
        self.frames = 0
        self.undecodable = 0

    def reset(self) -> None:
        """Forget the counts: what came before only built the books up."""
        self.records = self.frames = self.undecodable = 0
        self.pump.forget()

    def feed(self, line: Line) -> None:
        """One line; lines of no known connection are counted and passed over."""
        self.records += 1
        if line.dir == "open":
            self._open(line)
        elif line.dir == "in":
            self.frames += 1
            if line.conn not in self.pump.links:
                self._open(line)
            try:
                data = line.payload()
            except (ValueError, binascii.Error, OSError, EOFError, zlib.error):
                self.undecodable += 1
                return
            self.pump.frame(line.conn, data, line.t)
        elif line.dir == "http":
            self._fetched(line)

    def _open(self, line: Line) -> None:
        kind = dialect(self.venue)
        names = Names(kind, line.url)
        feed = Feed(line.conn, kind.name, self.venue, kind, line.url, kind.rest_url, (), names)
        self.pump.observe(line.conn, feed, line.url)
        self.pump.opened(line.conn, line.t)

    def _fetched(self, line: Line) -> None:
        """A snapshot has no connection in a capture: every connection that carries the book may use it."""
        raw = dialect(self.venue).snapshot_raw(line.url)
        if raw is None:
            return
        for source in list(self.pump.links):
            self.pump.fetched(source, f"depth:{raw}", 200, (line.data or "").encode(), line.t)
