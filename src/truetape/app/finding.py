"""What `truetape doctor` says of one thing. Next door: `doctor.py` and `listening.py` look."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Finding(Struct, frozen=True):
    """One thing that was looked at. `unknown`: it could not be, and `todo` says why that matters."""

    check: str
    verdict: Literal["ok", "warn", "fail", "unknown"]
    found: str
    todo: str = ""
