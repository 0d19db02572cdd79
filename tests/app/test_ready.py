"""What `/readyz` answers where nothing is well, and what the log then says: a gateway in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import truetape
from tests.app.child import Child, until
from truetape.app.stage import Stage
from truetape.app.trouble import EACH, Troubles
from truetape.core.feed.health import Stream
from truetape.core.feed.venue import Want


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
            until(lambda: "unknown_symbol" in child.noise.read_text(), "a line of the log that says why")
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


def test_a_plain_get_of_the_stream_says_that_it_is_a_websocket(tmp_path: Path) -> None:
    with Stage("kraken", symbols=1) as stage:
        child = Child(tmp_path, stage.feed())
        child.start()
        try:
            with pytest.raises(HTTPError) as told:
                urlopen(f"{child.origin}/v1/stream", timeout=5)
            assert told.value.code == 426
            # the door gives a handshake five seconds
            with pytest.raises(truetape.ClientError, match="is TLS spoken there"):  # noqa: SIM117
                with truetape.client(f"wss://127.0.0.1:{child.port}", connect_s=20):
                    pass
        finally:
            child.end()


def streams(count: int) -> list[Stream]:
    return [Stream("v", "v-1", Want("book", f"S{i}", f"S{i}"), None, 0) for i in range(count)]


def become(some: list[Stream], state: str) -> None:
    for stream in some:
        stream.state, stream.reason = state, f"because of {state}"


def test_the_log_tells_once_what_became_of_a_subscription_and_many_at_once_in_one_line() -> None:
    said: list[tuple[str, dict[str, Any]]] = []
    troubles = Troubles(
        lambda _event, **fields: said.append(("!", fields)), lambda _event, **fields: said.append(("-", fields))
    )
    all_ = streams(100)

    def look() -> list[tuple[str, dict[str, Any]]]:
        said.clear()
        troubles.look(all_)
        return list(said)

    assert look() == [], "SYNCING is how all begin"
    become(all_, "LIVE")
    assert look() == []
    become(all_[:1], "STALE")
    assert look() == [("!", {"state": "STALE", "symbol": "v:S0", "channel": "book", "reason": "because of STALE"})]
    assert look() == [], "said once"
    become(all_[:1], "RESYNC")
    assert look() == [], "asked for again, and not well yet"
    become(all_[:1], "LIVE")
    assert [(how, row["state"]) for how, row in look()] == [("-", "LIVE")]
    become(all_, "STALE")
    (how, row), *more = look()
    assert (how, row["count"], len(row["first"]), more) == ("!", 100, EACH, [])
    become(all_[:50], "SUSPECT")
    assert [(row["state"], row["count"]) for _, row in look()] == [("SUSPECT", 50)]
    del all_[:90]
    become(all_, "LIVE")
    assert [(row["state"], row["count"]) for _, row in look()] == [("well again", 10)]
    become(all_, "CLOSED")
    assert len(look()) == 1
