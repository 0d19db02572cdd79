"""Makes things go wrong, each at its time, and ends them: what a `Mishap` of each name does to a path, a site, a consumer or memory.

What the venue's own machine can do (`core.sim.faults`) is handed to its script. `heal` ends everything: from then on nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from truetape.core.sim.faults import Fault
from truetape.core.sim.script import Script
from truetape.core.sim.trouble import Trouble
from truetape.core.weather.clock import MS, SECOND, Clock
from truetape.core.weather.press import Press
from truetape.core.weather.reader import Reader
from truetape.core.weather.scenario import OF_CONSUMER, OF_NETWORK, OF_PROCESS, Mishap
from truetape.core.weather.site import Site

SLOW = SECOND
RETRY_AFTER_MAX_S = 5.0


class Mishaps:
    """Plays a list of mishaps on a clock that begins at `start`."""

    def __init__(
        self,
        mishaps: Sequence[Mishap],
        clock: Clock,
        sites: Sequence[Site],
        readers: Sequence[Reader],
        press: Press,
        start: int,
    ) -> None:
        self.clock = clock
        self.press = press
        self.sites = sites
        self.readers = readers
        self._healed = False
        scripts: list[list[Fault]] = [[] for _ in sites]
        for one in mishaps:
            if one.name in OF_NETWORK or one.name in OF_CONSUMER or one.name in OF_PROCESS:
                clock.at(start + round(one.at_s * SECOND), partial(self._happen, one))
            else:
                scripts[one.where].append(self._scripted(one))
        for number, (site, script) in enumerate(zip(sites, scripts, strict=True)):
            site.venue.script = Script(script, site.now, Random(f"{number}:script").random, site.venue.kind.wrong)

    def _scripted(self, one: Mishap) -> Fault:
        listed = list(self.sites[one.where].venue.market.listed)
        symbol = listed[one.symbol % len(listed)] if one.symbol >= 0 else ""
        return Fault(one.name, one.at_s, 0.0, symbol, one.value or None)

    def _happen(self, one: Mishap) -> None:
        if self._healed:
            return
        if one.name in OF_CONSUMER:
            reader = self.readers[one.where]
            reader.begin_slow(SLOW)
            self._later(one, partial(reader.begin_slow, 0))
            return
        if one.name in OF_PROCESS:
            self.press.begin()
            self._later(one, self.press.end)
            return
        site = self.sites[one.where]
        path = site.path
        match one.name:
            case "cut":
                site.cut_all()
            case "stall-down" | "stall-up" | "stall-both":
                ways = ("down", "up") if one.name == "stall-both" else (one.name[6:],)
                for way in ways:
                    path.hold(way, True)
                    self._later(one, partial(path.hold, way, False))
            case "pongs-only" | "pongs-lost" | "deaf":
                name = {"pongs-only": "mute", "pongs-lost": "pong_loss", "deaf": "deaf"}[one.name]
                setattr(site, name, True)
                self._later(one, partial(setattr, site, name, False))
            case "refuse":
                site.refusing = (503, -1.0)
                self._later(one, partial(setattr, site, "refusing", None))
                site.cut_all()
            case "rest-500" | "rest-429" | "rest-dead":
                after = min(one.value, RETRY_AFTER_MAX_S) if one.name == "rest-429" else -1.0
                site.rest = ({"rest-500": 500, "rest-429": 429}.get(one.name, 0), after)
                self._later(one, partial(setattr, site, "rest", None))
                site.cut_all()
            case "rest-slow":
                site.rest_extra_ns = round(one.value * SECOND)
                self._later(one, partial(setattr, site, "rest_extra_ns", 0))
                site.cut_all()
            case "slow-link":
                path.gap_ns = 60 * MS
                self._later(one, partial(setattr, path, "gap_ns", 0))
            case "lag":
                path.extra_ns = round(one.value * 0.15 * SECOND)
                self._later(one, partial(setattr, path, "extra_ns", 0))
            case other:
                raise AssertionError(f"mishap: expected one that is known, found {other}")

    def _later(self, one: Mishap, end: Callable[[], None]) -> None:
        self.clock.after(round(one.value * SECOND), end)

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self._healed = True
        self.press.end()
        for site in self.sites:
            path = site.path
            site.refusing = site.rest = None
            site.deaf = site.pong_loss = site.mute = False
            site.rest_extra_ns = path.gap_ns = path.extra_ns = 0
            for way in ("up", "down"):
                path.hold(way, False)
            site.venue.script = Script((), site.now, Random(0).random, site.venue.kind.wrong)
            site.venue.trouble = Trouble()
            site.venue.unmute()
            site.venue.started(site.now)
            path.let_go()
        for reader in self.readers:
            reader.quick = True
