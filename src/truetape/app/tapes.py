"""Recordings that can be played record by record before an audience: a journal's folder, a capture file. Next door: `tape_server.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from truetape.app.capture import BadInput, Line, Observer, find_venue, lines
from truetape.app.dialects import Names, dialect
from truetape.app.replay import Player, journal
from truetape.core.feed.plan import Feed
from truetape.core.route.pump import Pump
from truetape.core.route.router import Router
from truetape.io.store import reader
from truetape.model.record import Header, Record


class JournalTape:
    """A journal's folder. `Player` makes a pump for each run; all share one router, so that subscriptions last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.router = Router()
        self.player = Player(lambda: self.router)
        self._told = 0
        journal(path)
        header = next((header for header, _ in reader.read_batches(path) if header is not None), None)
        if header is None:
            raise BadInput(
                f"{path}: expected a journal that begins with a segment's header, found none that can be read"
            )
        self.first = header.now
        self.player.begin(header)  # so that there is a pump from the beginning; it is made anew when the tape is read

    @property
    def pump(self) -> Pump:
        assert self.player.pump is not None, "made at the first header"
        return self.player.pump

    @property
    def feeds(self) -> list[Feed]:
        """Those of the moment that is played."""
        return self.pump.feeds

    def steps(self) -> Iterator[tuple[int, Record]]:
        """Records and their times."""
        self.player = Player(lambda: self.router)
        for header, batch in reader.read_batches(self.path):
            if header is not None:
                self._begin(header)
            else:
                for item in batch:
                    yield item.now, item

    def _begin(self, header: Header) -> None:
        self.player.begin(header)
        for gap in self.player.gaps[self._told :]:
            self.router.notify(gap)  # nobody saw what lay between two runs
        self._told = len(self.player.gaps)

    def play(self, item: Record) -> None:
        """One record."""
        self.player.play(item)


class CaptureTape:
    """A capture file."""

    def __init__(self, path: Path, venue: str) -> None:
        self.path = path
        self.observer = Observer(venue or find_venue(path))
        kind = dialect(self.observer.venue)
        names = Names(kind, kind.url)
        self.feeds = [Feed(kind.name, kind.name, self.observer.venue, kind, kind.url, kind.rest_url, (), names)]
        self.router = self.observer.pump.router
        first = next(lines(path), None)
        if first is None:
            raise BadInput(f"{path}: expected capture lines, found an empty file")
        self.first = first.t

    @property
    def pump(self) -> Pump:
        return self.observer.pump

    def steps(self) -> Iterator[tuple[int, Line]]:
        """Lines and their times."""
        for line in lines(self.path):
            yield line.t, line

    def play(self, item: Line) -> None:
        """One line."""
        self.observer.feed(item)
