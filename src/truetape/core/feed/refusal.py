"""What the end of a connection says: an HTTP answer in place of the upgrade, or a close frame, as the venue's `Rejected`.

    (HTTP status, its body) or (close code, its text) --> the dialect's own reading --> else the common one --> else nothing special

A dialect may have `refusal(code, said) -> Rejected | None`; without it, or where it finds nothing, the codes that mean the same everywhere
hold. A status is below 1000, a close code is not: 1001 to 1004 are the protocol's own (going away, protocol error ...) and never a venue's.
Next door: `venue.py` has `Rejected`; `model.reason` the remedies; `core.route.credential` whom it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from truetape.core.feed.venue import Dialect, Rejected
from truetape.model.reason import REASONS

COMMON: Mapping[int, str] = {
    401: "bad_key", 407: "proxy_refused", 418: "rate_limit", 429: "rate_limit", 451: "region", 503: "venue_error",
}  # fmt: skip
"""HTTP statuses. 403 is a firewall's word as often as a key's (Binance), and is met with backoff unless a dialect knows better; 418 is
Binance's ban of an address that went on after 429."""
SAID_MAX = 200


def read(dialect: Dialect, code: int, said: str) -> Rejected | None:
    """Why a connection ended or was refused; None where neither code nor text says more than that it did."""
    own: Callable[[int, str], Rejected | None] | None = getattr(dialect, "refusal", None)
    if own is not None and (found := own(code, said)) is not None:
        return found
    text = said.strip()[:SAID_MAX]
    if code in COMMON:
        return Rejected(COMMON[code], text, code)
    if code >= 1000 and ("too many requests" in said.lower() or "rate limit" in said.lower()):
        return Rejected("rate_limit", text, code)
    return None


def wait_s(answer: Rejected | None, retry_after_s: float, reason: str = "") -> float:
    """How long to leave the venue alone, s: its own time, else that of the reason; -1 where nothing is to be waited for.

    `reason` begins with a name of `model.reason`, for ends that the venue said nothing about.
    """
    told = max(retry_after_s, answer.retry_after_s) if answer is not None else retry_after_s
    if told >= 0:
        return told
    row = REASONS.get(answer.reason if answer is not None else reason.partition(":")[0])
    return row.wait_s if row is not None and row.wait_s else -1.0
