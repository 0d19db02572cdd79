"""What consumers and clients that left had counted, so that totals never fall. Next door: `metrics.py` adds those who are here."""

from __future__ import annotations

from truetape.core.route.mailbox import Mailbox
from truetape.core.serve.box import ClientBox

NAMES_MAX = 500
"""Names that are kept apart; what more there are is counted together, as `OTHERS`."""
OTHERS = "(others)"
KINDS = ("delivered", "conflated", "dropped", "expired")


class Departed:
    """Sums by consumer. A downstream client's name is that of its token, whatever connections and subscriptions it has."""

    def __init__(self) -> None:
        self.consumers: dict[str, list[int]] = {}  # by name, in the order of KINDS
        self.client_bytes = 0
        self.client_messages = 0
        self.ended: dict[str, int] = {}  # clients, by the reason of their Bye

    def name(self, box: Mailbox) -> str:
        """The label `consumer`."""
        return box.name.rpartition("#")[0] if isinstance(box, ClientBox) else box.name

    def left(self, box: Mailbox) -> None:
        """Its box was closed, and is not read any more by the metrics."""
        row = self.row(self.consumers, self.name(box))
        add(row, box)

    @staticmethod
    def row(rows: dict[str, list[int]], name: str) -> list[int]:
        """The sums of this name."""
        known = rows.get(name)
        if known is None:
            known = rows.setdefault(name if len(rows) < NAMES_MAX else OTHERS, [0] * len(KINDS))
        return known

    def client_left(self, reason: str, bytes_out: int, messages_out: int) -> None:
        """A client of our own protocol is gone; `reason` is of the closed list of closings."""
        self.sent(bytes_out, messages_out)
        self.ended[reason] = self.ended.get(reason, 0) + 1

    def sent(self, bytes_out: int, messages_out: int) -> None:
        """What somebody who is gone was sent. A bot of a native dialect has no more to tell: its close codes are the venue's."""
        self.client_bytes += bytes_out
        self.client_messages += messages_out


def add(row: list[int], box: Mailbox) -> None:
    """The counters as they stand; what lies unsettled in the box is still queued."""
    if isinstance(box, ClientBox):
        box.fold()
    row[0] += box.delivered
    row[1] += box.conflated
    row[2] += box.dropped
    row[3] += box.expired
