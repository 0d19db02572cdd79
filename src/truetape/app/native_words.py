"""Summaries and candles in the venue's own words: what came with an event of ours, for bots that are to be told no other.

    link.decode ─► events ─► pump, as ever          beside it: the parts of the frame, by event ─► NativeRoom, when the event gets there

Our events keep fewer fields than the venues' messages have, and a field that is made up would be wrong. Only connections that carry such a
channel are listened to, and nothing of it enters the pump. Next door: `native.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from truetape.core.feed.venue import Decoded, Dialect
from truetape.core.route.link import Link
from truetape.model.event import Bar, Ticker

WORDED = ("ticker", "bar")
KEPT = 10_000
"""Parts of frames whose events did not come out of the pump yet; one frame of Kraken may hold 720 candles."""


class Words:
    """What was said, in order. `spoken` takes the parts out of a frame."""

    def __init__(self, spoken: Callable[[bytes], list[bytes]]) -> None:
        self._spoken = spoken
        self._said: deque[tuple[Ticker | Bar, bytes]] = deque(maxlen=KEPT)

    def listen(self, link: Link) -> None:
        """Hear what this connection says, and its successors under the same name."""
        if getattr(link.fresh, "heard", False):
            return
        fresh = link.fresh

        def listening() -> Dialect:
            dialect = fresh()
            setattr(dialect, "decode", self._beside(dialect.decode))  # noqa: B010  of this one instance
            return dialect

        listening.heard = True  # type: ignore[attr-defined]  # so that it is not done twice
        link.fresh = listening
        setattr(link, "decode", self._beside(link.decode))  # noqa: B010  what comes before it is renewed

    def _beside(self, decode: Callable[[bytes, int], Decoded]) -> Callable[[bytes, int], Decoded]:
        def heard(data: bytes, recv: int) -> Decoded:
            events = decode(data, recv)
            for event in events:
                if event.__class__ is Ticker or event.__class__ is Bar:
                    self._note(data, events)
                    break
            return events

        return heard

    def _note(self, data: bytes, events: Decoded) -> None:
        told = [event for event in events if isinstance(event, (Ticker, Bar))]
        parts = self._spoken(data)
        if len(parts) == len(told):  # else a member of it was refused, and whose the others are is not known
            self._said.extend(zip(told, parts, strict=True))

    def of(self, event: Ticker | Bar) -> bytes | None:
        """The words of this very event; what came before it and never got here is forgotten."""
        while self._said:
            other, part = self._said.popleft()
            if other is event:
                return part
        return None
