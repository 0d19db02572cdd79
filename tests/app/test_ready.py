"""What `/readyz` answers where nothing is well, and what the log then says: a gateway in a process of its own."""

from __future__ import annotations

from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.app.child import Child, until
from truetape.app.stage import Stage


def readyz(child: Child) -> tuple[int, str]:
    try:
        with urlopen(f"{child.origin}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_a_gateway_of_which_no_book_can_be_used_is_not_ready(tmp_path: Path) -> None:
    """Every symbol mistyped: the connection is well, and yet nobody should be sent here."""
    with Stage("kraken", symbols=2) as stage:
        child = Child(tmp_path, stage.feed(symbols=["NO-PE", "NEI-N"]))
        child.start()
        try:
            until(lambda: "CLOSED" in readyz(child)[1], "CLOSED in /readyz")
            code, said = readyz(child)
            assert code == 503
            assert "kraken:NO-PE CLOSED" in said
        finally:
            child.end()


def test_one_symbol_that_is_refused_does_not_take_the_others_away(tmp_path: Path) -> None:
    with Stage("kraken", symbols=2) as stage:
        child = Child(tmp_path, stage.feed(symbols=[*stage.symbols, "NO-PE"]))
        child.start()
        try:
            until(lambda: readyz(child) == (200, "ready\n"), "200 of /readyz")
        finally:
            child.end()
