"""`truetape plan`, and what every way in refuses before anything is dialed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import last_json, run, write_config

TOO_MUCH = (
    "feed tickdb: plan pro allows 300 subscriptions on 3 connections; the config wants 1,200 subscriptions of 400 symbols:"
    " 300 of 100 symbols fit; drop 300 symbols (in the config's order, from S100.US on), or choose plan enterprise"
    " (5,000 subscriptions, 10 connections)"
)


def tickdb(symbols: int, **more: Any) -> dict[str, Any]:
    return {
        "venue": "tickdb", "plan": "pro", "url": "ws://127.0.0.1:1/v1/realtime?api_key={secret}", "secret": "env:A_KEY",
        "symbols": [f"S{i}.US" for i in range(symbols)], "channels": ["book", "trade", "ticker"], **more,
    }  # fmt: skip


def planned(tmp_path: Path, *options: object, **feed: Any) -> Any:
    config = write_config(tmp_path / "c.toml", {"feeds": [tickdb(**feed)]})
    done = run("plan", config, "--json", *options, env={"A_KEY": "very-secret"})
    assert done.returncode == 0, done.stderr
    assert "very-secret" not in done.stdout
    return last_json(done.stdout)


def test_the_layout_as_json(tmp_path: Path) -> None:
    tree = planned(tmp_path, symbols=100, connections=2)
    assert tree["connections"] == 2
    (feed,) = tree["feeds"]
    assert (feed["feed"], feed["venue"], feed["plan"], feed["subscriptions"]) == ("tickdb", "tickdb", "pro", 300)
    assert feed["limits"] == {
        "connections": {"value": 2, "from": "config connections"},
        "subscriptions": {"value": None, "from": "no limit known"},
        "symbols": {"value": 500, "from": "default"},
        "total": {"value": 300, "from": "plan pro"},
    }
    for number, part in enumerate(feed["connections"], 1):
        assert part["name"] == f"tickdb-{number}"
        assert part["address"] == "ws://127.0.0.1:1/v1/realtime?api_key=***"
        count = len(part["symbols"])
        assert part["subscriptions"] == 3 * count
        assert part["room"] == {"subscriptions": 0, "symbols": 500 - count}
        assert part["share"] == pytest.approx(count / 100, abs=1e-4)
        assert part["rate"] is None
    carried = [symbol for part in feed["connections"] for symbol in part["symbols"]]
    assert sorted(carried) == sorted(f"S{i}.US" for i in range(100))


def test_the_layout_for_a_person(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.toml", {"feeds": [tickdb(20, connections=2)]})
    done = run("plan", config, env={"A_KEY": "very-secret"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "tickdb (tickdb, plan pro): 60 subscriptions"
    assert "  at most 300 subscriptions in all (plan pro)" in lines
    rows = [line.split() for line in lines if line.startswith("tickdb-")]
    assert [row[0] for row in rows] == ["tickdb-1", "tickdb-2"]
    assert sum(int(row[2]) for row in rows) == 60
    assert "very-secret" not in done.stdout


def test_second_lines_are_connections_too(tmp_path: Path) -> None:
    """What is dialed is what was shown: a layout that leaves half of it out would let somebody exceed what they bought."""
    more = {"lines": 2, "line_urls": ["wss://other.example/v1/realtime?api_key={secret}"]}
    tree = planned(tmp_path, symbols=20, **more)
    first, second = tree["feeds"][0]["connections"]
    assert (tree["connections"], first["name"], second["name"]) == (2, "tickdb-1", "tickdb-1b")
    assert second["address"].startswith("wss://other.example/") and first["address"].startswith("ws://127.0.0.1")
    assert (first["symbols"], first["share"]) == (second["symbols"], second["share"]) and first["share"] == 1.0
    config = write_config(tmp_path / "c.toml", {"feeds": [tickdb(20, **more)]})
    done = run("check", config, "--json", env={"A_KEY": "x"})
    rows = last_json(done.stdout)["connections"]
    assert [row["connection"] for row in rows] == ["tickdb-1", "tickdb-1b"] and rows[1]["url"] == second["address"]
    links = truetape.open({"feeds": [tickdb(20, **more)]}).pump.links
    assert [(link.source, link.url.partition("?")[0]) for link in links.values()] == [
        (part["name"], part["address"].partition("?")[0]) for part in (first, second)
    ], "what is shown is what is dialed"


@pytest.mark.parametrize("command", ["plan", "check", "run"])
def test_the_impossible_is_refused_before_dialing(tmp_path: Path, command: str) -> None:
    config = write_config(tmp_path / "c.toml", {"feeds": [tickdb(400)]})
    done = run(command, config, env={"A_KEY": "x"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"truetape: {TOO_MUCH}\n"


def test_the_api_refuses_the_impossible_too() -> None:
    with pytest.raises(truetape.ConfigError, match="100 symbols fit"):
        truetape.open({"feeds": [tickdb(400)]})


def test_rates_balance_and_can_be_kept(tmp_path: Path) -> None:
    heavy = {f"tickdb:S{i}.US": 1000.0 / (i + 1) for i in range(40)}
    (tmp_path / "r.json").write_text(json.dumps(heavy))
    tree = planned(
        tmp_path, "--rates", tmp_path / "r.json", "--save", tmp_path / "kept.json", symbols=40, connections=2
    )
    shares = [part["share"] for part in tree["feeds"][0]["connections"]]
    assert max(shares) < 0.55, shares
    assert sum(part["rate"] for part in tree["feeds"][0]["connections"]) == pytest.approx(sum(heavy.values()), rel=1e-4)
    again = planned(tmp_path, symbols=40, connections=2, rates=str(tmp_path / "kept.json"))
    assert again == tree, "what was saved and is named in the config gives the same layout"
    blind = planned(tmp_path, symbols=40, connections=2)
    assert blind["feeds"][0]["rates_known"] == 0


def test_a_status_gives_rates(tmp_path: Path) -> None:
    rows = [
        {"venue": "tickdb", "symbol": f"S{i}.US", "channel": "book", "samples": 100 * i, "state": "LIVE"}
        for i in range(4)
    ]
    (tmp_path / "s.json").write_text(json.dumps({"uptime_s": 10.0, "subscriptions": rows, "version": "x"}))
    tree = planned(tmp_path, "--rates", tmp_path / "s.json", symbols=4, channels=["book"])
    assert tree["feeds"][0]["connections"][0]["rate"] == 60.0


@pytest.mark.parametrize("text", ["", "[]", '{"a": "b"}', '{"a": -1}', "not json"])
def test_rates_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    config = write_config(tmp_path / "c.toml", {"feeds": [tickdb(4)]})
    done = run("plan", config, "--rates", tmp_path / "r.json", env={"A_KEY": "x"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "r.json" in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_feeds_may_not_have_connections_of_one_name() -> None:
    bybit = {"venue": "bybit", "symbols": ["BTC-USDT", "BTC-USDT-PERP"], "channels": ["book"]}
    other = {"venue": "kraken", "name": "bybit-linear", "symbols": ["BTC-USD"]}
    with pytest.raises(truetape.ConfigError, match="'bybit-linear-1'; rename one"):
        truetape.open({"feeds": [bybit, other]})


def test_a_tape_gives_rates(tmp_path: Path, kraken: Any) -> None:
    async def record() -> None:
        tree = {"feeds": [kraken.feed(symbols=kraken.symbols[:2])], "journal": {"dir": str(tmp_path / "tape")}}
        async with truetape.open(tree) as gateway:
            assert await gateway.ready()
            seen = gateway.subscribe("*", ["book", "trade"], mode=truetape.drop_oldest)
            for _ in range(200):
                await seen.take(1)

    asyncio.run(record())
    config = write_config(tmp_path / "c.toml", {"feeds": [kraken.feed(symbols=kraken.symbols[:2])]})
    done = run("plan", config, "--rates", tmp_path / "tape", "--json")
    assert done.returncode == 0, done.stderr
    (feed,) = last_json(done.stdout)["feeds"]
    assert feed["rates_known"] == 4, "book and trade of two symbols"
    assert feed["connections"][0]["rate"] > 10
