"""Where a command prints for a person. Texts are shown as they are: a symbol or a venue's words may hold brackets, which are no markup."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED = 160
"""Columns of a page that goes into a file or another program."""


def page() -> Console:
    """Stdout, as wide as the terminal."""
    return Console(markup=False, width=None if sys.stdout.isatty() else PIPED)
