"""Where a command prints for a person. Texts are shown as they are: a symbol or a venue's words may hold brackets, which are no markup."""

from __future__ import annotations

import sys
from decimal import Decimal

from rich.console import Console

PIPED = 160
"""Columns of a page that goes into a file or another program."""


def page() -> Console:
    """Stdout, as wide as the terminal."""
    return Console(markup=False, width=None if sys.stdout.isatty() else PIPED)


def figure(value: float) -> str:
    """Every digit that the number has, and no exponent: 67123.45, 0.00006547."""
    return format(Decimal(repr(value)), "f").removesuffix(".0")
