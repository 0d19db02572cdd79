"""Traces of a real gateway and a simulated venue, as a real OTLP collector gets them."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import environment, run
from tests.app.test_metrics import parsed
from trace_room import Collector, about, at, events
from truetape.app.live import Gateway
from truetape.app.metrics import exposition
from truetape.app.sim import Options, Simulator
from truetape.app.stage import Stage
from truetape.io.obs.trace import BATCH, WAITING_MAX
from truetape.io.store.journal import JournalError

STEPS = {"dial", "tcp", "handshake", "subscribed", "first data", "ready"}


def tree(feed: dict[str, Any], url: str, **trace: Any) -> dict[str, Any]:
    quick = {"backoff_first_s": 0.1, "backoff_max_s": 0.3, "profile": "relaxed"}
    return {"feeds": [{**feed, **quick}], "trace": {"endpoint": url, **trace}}


async def test_a_connection_a_cut_and_a_reconnect_are_the_spans_that_they_were() -> None:
    with Collector() as collector:
        async with Stage("kraken", rate=200) as sim, truetape.open(tree(sim.feed(), collector.url)) as gateway:
            assert await gateway.ready()
            await collector.until(lambda: collector.named("connect"), "the first connection")
            opened = gateway.status()["subscriptions"]
            sim.fault("close-1006")
            await collector.until(lambda: collector.named("reconnect"), "the reconnect")
            (link,) = gateway.status()["connections"]
            await collector.until(lambda: gateway.status()["trace"]["delivered"] == 3, "the collector's answer")
            report, found = (
                gateway.status()["trace"],
                parsed(exposition(gateway).text().decode())["truetape_trace_spans_total"],
            )
        assert link["reconnects"] == 1
        first, second = collector.named("connect")
        (outage,) = collector.named("reconnect")
    for span in (first, second):
        row = about(span)
        assert set(events(span)) == STEPS, "each once"
        assert events(span)[:3] == ["dial", "tcp", "handshake"]
        assert row["truetape.endpoint"] == link["url"]
        assert (row["truetape.venue"], row["truetape.connection"]) == ("kraken", "kraken-1")
        assert (row["truetape.outcome"], span.status.code, span.kind) == ("ready", 0, 3), (
            "a client's span, without error"
        )
        assert span.start_time_unix_nano == at(span, "dial") <= at(span, "handshake") <= at(span, "ready")
        assert span.end_time_unix_nano == at(span, "ready")
    live = [row["since"] for row in opened if row["channel"] == "book" and row["state"] == "LIVE"]
    assert at(first, "ready") == max(live), "as the status tells it, to the nanosecond"
    assert "truetape.wait_s" not in about(first)
    assert about(second)["truetape.wait_s"] > 0
    assert (second.trace_id, second.parent_span_id) == (outage.trace_id, outage.span_id)
    assert [(row.trace_id, row.span_id) for row in outage.links] == [(first.trace_id, first.span_id)]
    assert [(row.trace_id, row.span_id) for row in second.links] == [(first.trace_id, first.span_id)]
    told = about(outage)
    assert (told["truetape.reason"], told["truetape.attempts"], told["truetape.outcome"]) == (
        "connection_lost",
        1,
        "ready",
    )
    assert "without a close frame" in told["truetape.said"]
    assert outage.start_time_unix_nano + told["truetape.wait_s"] * 1e9 <= second.start_time_unix_nano
    assert outage.end_time_unix_nano == second.end_time_unix_nano
    assert collector.resources[0]["service.name"] == "truetape"
    assert collector.resources[0]["service.version"] == truetape.__version__
    assert (report["spans"], report["delivered"], report["refused"], report["last_error"]) == (3, 3, 0, "")
    assert {key[0][1]: value for key, value in found.items()} == {"ended": 3, "delivered": 3, "refused": 0}
    assert {path for path, _ in collector.requests} == {"/v1/traces"}


async def test_each_failed_attempt_of_an_outage_is_a_span_of_it() -> None:
    with Collector() as collector:
        sim = Simulator(Options(venue="kraken", symbols=1, rate=100))
        async with sim:
            feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
            gateway = truetape.open(tree(feed, collector.url))
            await gateway.__aenter__()
            assert await gateway.ready()
        try:
            await collector.until(lambda: len(collector.named("connect", outcome="failed")) > 2, "three attempts")
            port = int(feed["url"].rpartition(":")[2].partition("/")[0])
            async with Simulator(Options(venue="kraken", symbols=1, rate=100, port=port)):
                await collector.until(lambda: collector.named("reconnect"), "the end of the outage")
        finally:
            await gateway.__aexit__(None, None, None)
        (outage,) = collector.named("reconnect")
        attempts = collector.named("connect")[1:]
    assert len(attempts) == about(outage)["truetape.attempts"] > 3
    *failed, last = attempts
    for span in failed:
        row = about(span)
        assert (row["truetape.reason"], row["truetape.outcome"], span.status.code) == ("dial_failed", "failed", 2)
        assert events(span) == ["dial"], "nothing listened"
        assert "Connection refused" in row["truetape.said"]
    assert about(last)["truetape.outcome"] == "ready"
    assert {span.parent_span_id for span in attempts} == {outage.span_id}
    assert [about(span)["truetape.attempt"] for span in attempts] == sorted(
        about(span)["truetape.attempt"] for span in attempts
    )
    for earlier, later in itertools.pairwise(attempts):
        assert later.links[0].span_id == earlier.span_id, "each is linked to the one before"


async def test_group_commits_and_turns_are_sampled_as_they_were(tmp_path: Path) -> None:
    with Collector() as collector:
        async with Stage("kraken", rate=300) as sim:
            config = tree(sim.feed(), collector.url, batches=1.0)
            config |= {"journal": {"dir": str(tmp_path / "tape"), "flush_ms": 50}, "serve": {"port": 0}}
            async with truetape.open(config) as gateway:
                assert await gateway.ready()
                assert gateway.service is not None and gateway.journal is not None
                async with truetape.client(f"ws://127.0.0.1:{gateway.service.port}") as client:
                    got = client.subscribe("*", ["trade", "book"], bound=10_000)
                    async with asyncio.timeout(20):
                        await got.take()
                    await collector.until(lambda: len(collector.named("commit")) > 5, "commits")
                    await collector.until(
                        lambda: sum(about(s)["truetape.messages"] for s in collector.named("turn")) > 10, "turns"
                    )
                sent = sum(about(span)["truetape.bytes"] for span in collector.named("turn"))
            commits = collector.named("commit")
            wrote = gateway.journal.status()
    following = 0
    for before, after in itertools.pairwise(commits):
        first, records = (about(before)[f"truetape.{key}"] for key in ("first_record", "records"))
        following += about(after)["truetape.first_record"] == first + records
        assert before.start_time_unix_nano < before.end_time_unix_nano <= after.start_time_unix_nano
        assert about(before)["truetape.sync_ms"] * 1e6 <= before.end_time_unix_nano - before.start_time_unix_nano
    assert following == len(commits) - 1, "each commit once, none left out"
    assert sum(about(span)["truetape.bytes"] for span in commits) <= wrote.bytes
    assert sent > 1000
    assert {about(span)["truetape.clients"] for span in collector.named("turn")} == {1}


async def test_a_share_of_nothing_leaves_turns_as_they_are_and_traces_no_batch(tmp_path: Path) -> None:
    with Collector() as collector:
        async with Stage("kraken") as sim:
            config = tree(sim.feed(), collector.url, batches=0.0)
            config |= {"journal": {"dir": str(tmp_path / "tape")}, "serve": {"port": 0}}
            async with truetape.open(config) as gateway:
                assert await gateway.ready()
                assert gateway.service is not None and gateway.journal is not None
                assert gateway.service.hall._go == gateway.service.hall._turn
                first = gateway.journal.flushed_record
                await collector.until(lambda: gateway.journal.flushed_record > first + 50, "commits")  # type: ignore[union-attr]
        await collector.until(lambda: collector.named("connect"), "the connection")
        assert {span.name for span in collector.spans} == {"truetape.connect"}


async def test_a_successor_is_linked_to_what_it_replaces_and_a_hand_over_is_no_outage() -> None:
    with Collector() as collector:
        async with (
            Stage("kraken", rate=200) as sim,
            truetape.open(tree(sim.feed(lifetime_s=6), collector.url)) as gateway,
        ):
            assert await gateway.ready()
            await collector.until(lambda: len(collector.named("connect")) > 2, "two hand-overs")
        spans = collector.named("connect")
        assert [about(span)["truetape.connection"] for span in spans[:3]] == ["kraken-1", "kraken-1~", "kraken-1"]
        assert {about(span)["truetape.outcome"] for span in spans[:3]} == {"ready"}
        for earlier, later in itertools.pairwise(spans[:3]):
            assert later.links[0].span_id == earlier.span_id
            assert "truetape.wait_s" not in about(later), "nothing was lost before it"
        assert collector.named("reconnect") == []


async def test_a_connection_that_was_stopped_says_why_and_that_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "right")
    with Collector() as collector:
        async with Stage("tickdb", key="right") as sim:
            feed = sim.feed(secret="env:TEST_KEY") | {"url": f"{sim.ws}?api_key={{secret}}"}
            config = tree(feed, collector.url)
            async with truetape.open(config) as gateway:
                assert await gateway.ready()
                await collector.until(lambda: collector.named("connect", outcome="ready"), "the connection")
                sim.fault("token-expired")
                await collector.until(lambda: collector.named("reconnect"), "the end")
                (link,) = gateway.status()["connections"]
        assert link["state"] == "STOPPED"
        (outage,) = collector.named("reconnect")
        row = about(outage)
        assert (row["truetape.outcome"], row["truetape.attempts"], outage.status.code) == ("stopped", 0, 2)
        assert row["truetape.said"] == link["reason"]
        (connect,) = collector.named("connect")
        assert "authenticated" in events(connect)


async def test_what_nobody_wants_any_more_is_no_outage() -> None:
    with Collector() as collector:
        async with Stage("kraken", symbols=2) as sim:
            feed = sim.feed(symbols_per_connection=1, subscriptions_max=3, connections=0, channels=["book"]) | {
                "symbols": sim.symbols[:1]
            }
            async with truetape.open(tree(feed, collector.url)) as gateway:
                assert await gateway.ready()
                with gateway.subscribe(sim.ids[1], "book") as news:
                    async with asyncio.timeout(20):
                        while not await news.take():
                            pass
                    assert len(gateway.status()["connections"]) == 2
                await collector.until(lambda: gateway.status()["connections"][1]["state"] == "STOPPED", "it is hung up")
        assert len(collector.named("connect", outcome="ready")) == 2
        assert collector.named("reconnect") == []


async def test_tls_says_which_version_and_every_line_of_two_is_a_span(tmp_path: Path) -> None:
    with Collector() as collector:
        async with (
            Stage("kraken", tls=str(tmp_path)) as sim,
            truetape.open(tree(sim.feed(lines=2), collector.url)) as gateway,
        ):
            assert await gateway.ready()
            await collector.until(lambda: len(collector.named("connect")) == 2, "two lines")
        assert {about(span)["truetape.outcome"] for span in collector.named("connect")} == {"ready"}
        for span in collector.named("connect"):
            (shake,) = [event for event in span.events if event.name == "handshake"]
            assert [row.value.string_value for row in shake.attributes] == ["TLSv1.3"]


def reconnected(gateway: Gateway, times: int) -> bool:
    return bool(gateway.status()["connections"][0]["reconnects"] == times)


def refused(gateway: Gateway, least: int) -> bool:
    return bool(gateway.status()["trace"]["refused"] >= least)


async def test_a_collector_that_is_away_disturbs_nothing_and_is_told_once_each_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    collector = Collector().start()
    collector.stop()
    async with (
        Stage("kraken", rate=200) as sim,
        truetape.open(tree(sim.feed(), collector.url, within_s=0.3)) as gateway,
    ):
        for _ in range(3):
            assert await gateway.ready()
            before = gateway.status()
            sim.fault("close-1006")
            again = before["connections"][0]["reconnects"] + 1
            await collector.until(partial(reconnected, gateway, again), "a reconnect")
            await collector.until(partial(refused, gateway, before["trace"]["refused"] + 1), "a batch is refused")
        assert await gateway.ready()
        assert gateway.status()["trace"]["last_error"].endswith(": Connection refused")
        with collector:
            sim.fault("close-1006")
            await collector.until(lambda: collector.named("reconnect"), "spans, as soon as it is there")
            assert gateway.status()["trace"]["last_error"] == ""
        assert gateway.status()["loop"]["longest_lag_ms"] < 1000
    said = [record.getMessage() for record in caplog.records if "traces are" in record.getMessage()]
    assert ["not taken" in text for text in said] == [True, False], said
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


async def test_more_spans_than_may_wait_push_out_the_oldest_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    collector = Collector().start()
    collector.stop()
    async with Stage("kraken", rate=1000) as sim:
        config = tree(sim.feed(), collector.url, batches=1.0, within_s=60) | {
            "journal": {"dir": str(tmp_path / "tape"), "flush_ms": 1}
        }
        async with truetape.open(config) as gateway:
            assert gateway.tracing is not None
            counts = gateway.tracing.tracer.counts
            most = WAITING_MAX + BATCH  # what waits, and what is being tried again all the while
            await collector.until(lambda: counts.spans > most + 200, "more than may wait")
            assert await gateway.ready()
            assert counts.refused == counts.delivered == 0
            collector.start()
            await collector.until(lambda: counts.delivered > WAITING_MAX, "what waited")
    collector.stop()
    assert counts.delivered + counts.refused <= counts.spans - 200, "some were pushed out"
    commits = [about(span)["truetape.first_record"] for span in collector.named("commit")]
    kept = [later for earlier, later in itertools.pairwise(commits) if later > earlier]
    assert len(kept) == len(commits) - 1 > WAITING_MAX - 200, "the later ones, in order"
    loud = [record for record in caplog.records if not record.name.startswith(("truetape", "asyncio"))]
    assert loud == []


async def test_a_collector_that_hangs_does_not_hold_up_the_end() -> None:
    """It takes the connection and never answers: the end comes within the time that the last spans have."""

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop = asyncio.get_running_loop()
    async with server, Stage("kraken") as sim:
        async with truetape.open(tree(sim.feed(), url, within_s=60)) as gateway:
            assert await gateway.ready()
            began = loop.time()
        assert loop.time() - began < 8


async def test_the_environment_names_the_collector_and_its_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=desk")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        async with Stage("kraken") as sim, truetape.open(tree(sim.feed(), "", service="feeds")) as gateway:
            assert await gateway.ready()
        await collector.until(lambda: collector.named("connect"), "spans that were sent at the end")
        assert collector.requests[0][1]["x-tenant"] == "desk"
        assert collector.resources[0]["service.name"] == "feeds"
        assert collector.resources[0]["deployment.environment"] == "test"


async def test_a_key_that_is_no_part_of_the_address_is_accepted_when_the_venue_gives_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_KEY", "a key that goes out in a message")
    with Collector() as collector:
        async with (
            Stage("kraken") as sim,
            truetape.open(tree(sim.feed(secret="env:TEST_KEY"), collector.url)) as gateway,
        ):
            assert await gateway.ready()
            await collector.until(lambda: collector.named("connect"), "the connection")
        (span,) = collector.named("connect")
        assert set(events(span)) == STEPS | {"authenticated"}
        assert at(span, "handshake") < at(span, "authenticated") <= at(span, "first data")


async def test_a_reload_does_not_change_where_spans_go(tmp_path: Path) -> None:
    async with Stage("kraken") as sim:
        rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in sim.feed().items())
        path = tmp_path / "gateway.toml"
        path.write_text(f"[[feeds]]\n{rows}")
        async with truetape.open(path) as gateway:
            path.write_text(f"[[feeds]]\n{rows}[trace]\n")
            assert "trace: cannot be changed while running" in (await gateway.reload())["error"]


async def test_a_start_that_fails_leaves_no_thread_behind(tmp_path: Path) -> None:
    def ours() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if "Otel" in thread.name or "trace" in thread.name}

    before = ours()
    (tmp_path / "tape").write_text("no folder")
    with Collector() as collector:
        config = {
            "feeds": [{"venue": "kraken", "symbols": ["BTC-USD"], "url": "ws://127.0.0.1:1"}],
            "trace": {"endpoint": collector.url},
        }
        with pytest.raises(JournalError):
            async with truetape.open(config | {"journal": {"dir": str(tmp_path / "tape")}}):
                pass
        await collector.until(lambda: ours() <= before, "the threads ended")


async def test_a_feed_that_is_removed_on_its_way_up_ends_its_span(tmp_path: Path) -> None:
    """The second venue takes the socket and never answers the handshake."""

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    with Collector() as collector:
        async with server, Stage("kraken") as sim:
            table = {
                "name": "mute",
                "label": "mute",
                "venue": "kraken",
                "symbols": sim.symbols,
                "url": f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            }
            first, second = (
                "[[feeds]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in row.items())
                for row in (sim.feed(), table)
            )
            path = tmp_path / "gateway.toml"
            trace = f'[trace]\nendpoint = "{collector.url}"\n'
            path.write_text(first + second + trace)
            async with truetape.open(path) as gateway:
                await collector.until(lambda: collector.named("connect", outcome="ready"), "the first feed")
                path.write_text(first + trace)
                assert (await gateway.reload())["ok"]
                await collector.until(lambda: collector.named("connect", outcome="stopped"), "the second feed's end")
                assert gateway.tracing is not None
                assert gateway.tracing._timer is None, "nothing is looked for any more"
        (span,) = collector.named("connect", outcome="stopped")
        assert about(span)["truetape.connection"] == "mute-1"
        assert events(span) == ["dial", "tcp"]


async def test_without_the_table_nothing_of_it_is_there() -> None:
    async with Stage("kraken") as sim, truetape.open(sim.config()) as gateway:
        assert gateway.tracing is None
        assert "truetape_trace" not in re.sub(r"(?m)^#.*", "", exposition(gateway).text().decode())
        assert gateway.status()["trace"] is None
        assert gateway.driver.seen("open", "kraken-1", 0) is None, "a function that does nothing"


def test_the_page_names_every_span_event_and_attribute() -> None:
    root = Path(__file__).parents[2]
    source = (root / "src" / "truetape" / "app" / "tracing.py").read_text()
    page = (root / "docs" / "tracing.md").read_text()
    names = set(re.findall(r'"((?:truetape|tls|server)\.[a-z_.]+)"', source)) | set(
        re.findall(r'event\("([a-z ]+)"', source)
    )
    outcomes = set(re.findall(r'_(?:end|over|done)\([\w.]+,(?: link,)? "([a-z ]+)"', source))
    assert len(names) > 25 and len(outcomes) > 4, (names, outcomes)
    assert [name for name in names | outcomes if f"`{name}`" not in page] == []


LOOK = """
import asyncio, sys, truetape
from truetape.app.stage import Stage
async def main():
    async with Stage("kraken") as sim, truetape.open({**sim.config(), "serve": {"port": 0}, "journal": {"dir": sys.argv[1]}}) as gateway:
        assert await gateway.ready()
asyncio.run(main())
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "requests", "google"))))
"""


def test_without_the_table_the_library_is_not_even_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path / "tape")],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


HIDDEN = "import sys; sys.modules['opentelemetry'] = None; from truetape.app.cli.main import main; main()"


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[[feeds]]\nvenue = "kraken"\nsymbols = ["BTC-USD"]\n[trace]\n')
    for command in ("check", "run"):
        done = subprocess.run(
            [sys.executable, "-c", HIDDEN, command, str(tmp_path / "gateway.toml")],
            capture_output=True, text=True, timeout=60, check=False, env=environment(), cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "pip install 'truetape[traces]'" in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('endpoint = "localhost:4318"', "$.trace.endpoint: expected an address that begins with http:// or https://"),
        ('endpoint = "http://bob:canary@host:4318"', "$.trace.endpoint: expected neither user, password nor query"),
        ('endpoint = "http://host?token=canary"', "$.trace.endpoint: expected neither user, password nor query"),
        ('secret = "canary"', "$.trace.secret: expected a reference"),
        ('secret = "env:NOT_SET_ANYWHERE"', "NOT_SET_ANYWHERE is not set"),
        ("batches = 2", "$.trace.batches: expected `float` <= 1"),
        ("share = 1", "known keys: endpoint, secret, ca_file, service, batches, within_s"),
        ('ca_file = "/nowhere.pem"', "ca_file"),
    ],
)
def test_a_wrong_table_is_refused_by_key(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "gateway.toml").write_text(f'[[feeds]]\nvenue = "kraken"\nsymbols = ["BTC-USD"]\n[trace]\n{line}\n')
    done = run("check", tmp_path / "gateway.toml")
    assert (done.returncode, "canary" in done.stderr) == (2, False), done.stderr
    assert said in done.stderr
