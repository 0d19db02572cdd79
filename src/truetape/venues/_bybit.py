"""How Bybit spells its symbols: one spelling for a spot pair and a perpetual, told apart by the category. Not a venue of its own.

Source: the instrument lists recorded on 2026-08-09, whose 1,357 spot and linear symbols go both ways.
"""

from __future__ import annotations

import re

CATEGORIES = ("spot", "linear", "inverse")
QUOTES = (
    "USDT", "USDC", "RLUSD", "USDE", "USD1", "XUSD", "USD", "EUR", "BTC", "ETH", "GBP", "BRL", "TRY", "PLN", "AED", "SOL",
)  # fmt: skip
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DATED = re.compile(r"(?P<pair>\w+)-(?P<day>\d{1,2})(?P<month>[A-Z]{3})(?P<year>\d\d)$")


def category(symbol: str) -> str:
    """The category that a canonical symbol belongs to."""
    parts = symbol.split("-")
    return "spot" if len(parts) < 3 else "inverse" if parts[1] == "USD" else "linear"


def pair(raw: str) -> str:
    """`BTCUSDT` -> `BTC-USDT`; unchanged where no known quote ends it."""
    quote = next((quote for quote in QUOTES if raw.endswith(quote) and raw != quote), "")
    return f"{raw.removesuffix(quote)}-{quote}" if quote else raw


def canonical(raw: str, where: str) -> str:
    """Our name of a symbol in a category. A perpetual or future without a quote in its name is settled in USDC."""
    if (dated := DATED.match(raw)) is not None and dated["month"] in MONTHS:
        base = pair(dated["pair"]) if dated["pair"].endswith("USDT") else f"{dated['pair']}-USDC"
        return f"{base}-{dated['year']}{MONTHS.index(dated['month']) + 1:02}{int(dated['day']):02}"
    if where not in ("linear", "inverse"):
        return pair(raw)
    if raw.endswith("PERP"):
        return f"{raw[:-4]}-USDC-PERP"
    return f"{pair(raw)}-PERP" if pair(raw) != raw else raw


def native(symbol: str) -> str:
    """The venue's spelling of a canonical symbol; in upper case where no rule fits."""
    base, *rest = symbol.upper().split("-")
    if len(rest) == 1 and rest[0] in QUOTES:
        return base + rest[0]
    if len(rest) != 2 or not (rest[1] == "PERP" or (len(rest[1]) == 6 and rest[1].isdecimal())):
        return symbol.upper()
    quote, term = rest
    if term == "PERP":
        return f"{base}PERP" if quote == "USDC" else base + quote
    month = MONTHS[(int(term[2:4]) - 1) % 12]
    return f"{base if quote == 'USDC' else base + quote}-{int(term[4:])}{month}{term[:2]}"
