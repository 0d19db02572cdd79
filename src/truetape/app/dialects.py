"""Venue files, found by their names or by the URLs of a capture. There is no registry: a file in `truetape/venues` is enough."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import cast

import truetape.venues
from truetape.core.feed.venue import Dialect


class UnknownVenue(Exception):
    """No venue file of that name, or for that URL."""


@cache
def known() -> tuple[str, ...]:
    """The names of the venue files that come with truetape."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(truetape.venues.__path__) if not m.name.startswith("_")))


@cache
def dialect(venue: str) -> type[Dialect]:
    """The dialect of a venue: `kraken` is module `truetape.venues.kraken`; a dotted name is a module of yours."""
    module = venue if "." in venue else f"truetape.venues.{venue}"
    if "." not in venue and venue not in known():
        raise UnknownVenue(f"expected a venue of {', '.join(known())} or a dotted module name, found {venue!r}")
    try:
        return cast("type[Dialect]", importlib.import_module(module).Dialect)
    except (ImportError, AttributeError) as error:
        raise UnknownVenue(f"venue {venue!r}: expected a module {module} with a class Dialect: {error}") from None


def by_url(url: str) -> str | None:
    """The venue whose hosts stand in this URL; the longest match wins, None if there is none."""
    best = ("", "")
    for name in known():
        for host in dialect(name).hosts:
            if host in url and len(host) > len(best[0]):
                best = (host, name)
    return best[1] or None


class Names(dict[str, str]):
    """Raw -> canonical symbols: what the instruments said, else the venue file's rule, remembered."""

    def __init__(self, dialect: type[Dialect], url: str, known: dict[str, str] | None = None) -> None:
        super().__init__(known or {})
        self._dialect = dialect
        self._url = url

    def __missing__(self, raw: str) -> str:
        name = self[raw] = self._dialect.canonical(raw, self._url)
        return name
