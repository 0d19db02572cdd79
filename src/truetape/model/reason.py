"""The one table of reasons: what can happen in the world, and the one remedy for each.

Upstream, venue files translate a venue's own codes into these; downstream, servers tell clients why. A remedy is one of
`retry_now` (dial again at once), `backoff` (dial again later), `wait` (until the venue's own time), `resync` (the book only),
`drop` (this subscription only) and `stop` (this credential or feed: a person must act).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Remedy: TypeAlias = Literal["retry_now", "backoff", "wait", "resync", "drop", "stop"]


class Reason(Struct, frozen=True):
    """A named cause with its remedy; `text` is what a person is told. `wait_s`: how long to wait where the venue gives no time."""

    name: str
    remedy: Remedy
    text: str
    wait_s: float = 0.0


_ROWS: tuple[Reason, ...] = (
    Reason("closed_by_venue", "backoff", "the venue closed the connection"),
    Reason("connection_lost", "backoff", "the connection broke"),
    Reason("dial_failed", "backoff", "no connection could be made"),
    Reason("dead_link", "retry_now", "no answer to a ping in time"),
    Reason("silence", "retry_now", "nothing arrived for longer than the venue's heartbeat allows"),
    Reason("garbage", "backoff", "too many undecodable frames in a row"),
    Reason("unacknowledged", "retry_now", "a subscription was asked for several times and never confirmed"),
    Reason("mute", "retry_now", "subscriptions fell silent on a connection that lives, and asking again did not help"),
    Reason("lifetime", "retry_now", "the venue's own limit on the age of a connection"),
    Reason("refused", "backoff", "the venue refused the connection"),
    Reason("bad_key", "stop", "the key is wrong, missing, expired or not allowed here"),
    Reason("plan", "stop", "the plan does not include this"),
    Reason("region", "stop", "the venue does not serve this country"),
    Reason("proxy_refused", "stop", "the proxy wants credentials, or others"),
    Reason("wrong_pin", "backoff", "the venue's certificate has none of the pinned keys: nothing was sent", 30.0),
    Reason("bad_request", "drop", "the venue calls the request wrong"),
    Reason("unknown_symbol", "drop", "the venue does not know the symbol"),
    Reason("ambiguous_symbol", "drop", "the symbol means several things: give its type"),
    Reason("unavailable", "drop", "the channel is not available for this symbol"),
    Reason("rate_limit", "wait", "too many requests", 5.0),
    Reason("quota", "wait", "the quota is used up", 60.0),
    Reason("too_many_connections", "wait", "more connections than the plan allows", 30.0),
    Reason("too_many_subscriptions", "drop", "more subscriptions than the plan allows"),
    Reason("venue_error", "backoff", "the venue has trouble of its own"),
    Reason("sequence_gap", "resync", "a number is missing between two messages"),
    Reason("checksum", "resync", "the venue's checksum differs from the book's"),
    Reason("crossed", "resync", "the best bid is not below the best ask"),
    Reason("damaged", "resync", "a book message could not be read"),
    Reason("drift", "resync", "a price or size changed its type"),
    Reason("stopped", "stop", "stopped by an operator"),
)  # fmt: skip

REASONS: dict[str, Reason] = {row.name: row for row in _ROWS}


def remedy(name: str) -> Remedy:
    """The remedy for a reason; what the table does not know is met with backoff."""
    row = REASONS.get(name)
    return row.remedy if row is not None else "backoff"
