"""The faults that a simulated venue can be told to make, and the script that says when: names, meanings, and the reader of the text.

One fault a line, `name@12s[:symbol][=value]` (once, so long after the start) or `name~0.01[:symbol]` (a seeded share of book messages); a
bare name means `@5s`; `#` begins a comment. Next door: `script.py` plays what concerns messages, `trouble.py` keeps what lasts, `venue.py`
does the rest. docs/simulator.md tells users.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from truetape.core.feed.counterpart import Wrong

OF_FRAMES = {
    "drop-delta": "`=n` book messages (1) are left out",
    "duplicate": "`=n` book messages (1) are sent twice",
    "reorder": "`=n` book messages (1) are sent after the one that follows them",
    "fragment": "`=n` book messages (1) leave in three WebSocket fragments",
    "torn-frame": "`=n` book messages (1) end in the middle of their JSON",
    "bad-utf8": "`=n` book messages (1) hold a byte that is no UTF-8",
    "unknown-field": "`=n` book messages (1) have a field that nobody knows",
    "unknown-enum": "`=n` book messages (1) have an unknown word where the venue has a few known ones",
    "type-change": "`=n` book messages (1) have their first price as another JSON type: a text for a number, a number for a text",
    "wrong-checksum": "the checksum of `=n` book messages (1) is off by one",
    "zero-checksum": "the checksum of `=n` book messages (1) is 0",
}
OF_TIME = {
    "mute-symbol": "nothing more is sent of a symbol (all without one) for `=seconds` (for ever), while the connection lives",
    "mute-after-ack": "what is subscribed in the next `=seconds` (for ever) is acknowledged, and then nothing comes of it",
    "never-ack": "requests to subscribe are not answered, nor followed, for `=seconds` (for ever)",
    "half-open": "connections stay open, but nothing is read, sent or answered any more, for `=seconds` (for ever)",
    "slow-drip": "every connection gets 2,000 bytes a second, cut anywhere, for `=seconds` (10); then all that waited",
    "refuse-429": "handshakes are answered with HTTP 429 and Retry-After for `=seconds` (5)",
    "rate-3001": "the venue says that it is asked too much, and answers requests so for `=seconds` (5)",
    "token-expired": "the key expires: every connection is told so and closed, new ones too, for `=seconds` (for ever)",
    "lifetime-cut": "every connection, new ones too, is closed at the age of `=seconds` (10), announced where the venue does",
    "burst-100x": "messages come at 100 times the rate for `=seconds` (1)",
}
OF_MOMENT = {
    "close-1000": "every connection is closed: normal end",
    "close-1001": "every connection is closed: going away",
    "close-1006": "every connection breaks without a close frame",
    "close-1011": "every connection is closed: server error",
    "cert-swap": "every connection breaks, and handshakes show another certificate: trusted, or with `=1` unknown (needs `--tls`)",
    "clock-jump": "the venue's clock jumps by `=seconds` (3600), back with a minus",
    "seq-reset": "the numbers of book messages begin anew",
}
KNOWN = OF_FRAMES | OF_TIME | OF_MOMENT
OF_SYMBOLS = {*OF_FRAMES, "mute-symbol", "seq-reset"}
"""Those that can be held to one symbol."""
BARE_AT_S = 5.0
SHOWN = 10
"""So many symbols are named to whoever wrote one that is not there."""
VALUES = {
    "slow-drip": 10.0,
    "refuse-429": 5.0,
    "rate-3001": 5.0,
    "lifetime-cut": 10.0,
    "burst-100x": 1.0,
    "clock-jump": 3600.0,
}
"""What a fault's value is where none is given, in seconds; all others last for ever or happen once."""

_LINE = re.compile(
    r"(?P<name>[a-z0-9-]+)(?:@(?P<at>\d+(?:\.\d+)?)s?|~(?P<share>\d*\.?\d+))?(?::(?P<symbol>[^=\s]+))?(?:=(?P<value>-?\d+(?:\.\d+)?))?$"
)


class BadFault(ValueError):
    """A line of a script that says nothing we know, or nothing that this venue can do."""


class Fault(Struct, frozen=True):
    """One line of a script. `share` 0: once, `at_s` after the start; empty `symbol`: any, or all where it concerns connections."""

    name: str
    at_s: float = BARE_AT_S
    share: float = 0.0
    symbol: str = ""
    value: float | None = None

    @property
    def seconds(self) -> float:
        """How long it lasts; 0 for ever."""
        return self.value if self.value is not None else VALUES.get(self.name, 0.0)


def parse(lines: Iterable[str]) -> list[Fault]:
    """The faults of a script. Raises BadFault with what was expected."""
    faults = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.match(text)
        if found is None:
            raise BadFault(f"line {number}: expected name@12s[:symbol][=value] or name~0.01, found {text[:80]!r}")
        name, symbol, share = found["name"], found["symbol"] or "", float(found["share"] or 0)
        if name not in KNOWN:
            raise BadFault(f"line {number}: expected one of {', '.join(sorted(KNOWN))}; found {name!r}")
        if share > 1 or (share and name not in OF_FRAMES):
            raise BadFault(
                f"line {number}: expected a share of book messages up to 1, of a fault that concerns them; found {text[:80]!r}"
            )
        if symbol and name not in OF_SYMBOLS:
            raise BadFault(
                f"line {number}: {name} concerns whole connections, expected no symbol, found {symbol[:40]!r}"
            )
        value = float(found["value"]) if found["value"] else None
        if value is not None and value < 0 and name != "clock-jump":
            raise BadFault(f"line {number}: expected a value of at least 0, found {text[:80]!r}")
        faults.append(Fault(name, float(found["at"] or BARE_AT_S), share, symbol, value))
    return faults


def inapplicable(name: str, wrong: Wrong, tls: bool = True) -> str:
    """Why a fault means nothing on a venue; empty where it does."""
    if name in ("wrong-checksum", "zero-checksum") and not wrong.summed:
        return "the venue sends no checksums"
    if name == "seq-reset" and not wrong.numbered:
        return "the venue numbers no book messages"
    if name == "token-expired" and not wrong.expired:
        return "the venue's public streams ask for no key"
    if name == "cert-swap" and not tls:
        return "the simulator serves without TLS; add --tls"
    return ""


def check(faults: Sequence[Fault], venue: str, wrong: Wrong, tls: bool, symbols: Mapping[str, str]) -> None:
    """Raise BadFault for what would do nothing on this venue: a rehearsal that rehearses nothing is worse than none.

    `symbols`: all that the venue lists, its spelling -> ours.
    """
    for fault in faults:
        if why := inapplicable(fault.name, wrong, tls):
            raise BadFault(f"{fault.name} does not apply to {venue}: {why}")
        if fault.symbol and fault.symbol not in symbols and fault.symbol not in symbols.values():
            some = ", ".join(list(symbols.values())[:SHOWN]) + (" …" if len(symbols) > SHOWN else "")
            raise BadFault(
                f"{fault.name}: expected a symbol of the simulated {venue}: {some}; found {fault.symbol[:40]!r}"
            )
