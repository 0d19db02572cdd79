"""Where a driver's inputs go before they are judged. Next door: `io/store/journal.py` is one."""

from __future__ import annotations

from typing import Any, Protocol


class Recorder(Protocol):
    """The journal, or whatever keeps records in its place."""

    def append(self, record: tuple[Any, ...], size: int) -> None:
        """Keep one record, in the array form of `model.record`."""
