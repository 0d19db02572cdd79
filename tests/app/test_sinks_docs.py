"""The examples of docs/sinks.md, as they stand there, read from real servers; TLS; and what is said where a library is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from bus_servers import NatsServer, RedisServer, Server
from sinks_room import row, running, until
from truetape.app.config import ConfigError
from truetape.app.config_sinks import SinkConfig
from truetape.app.sinks import make_bus

PAGE = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(
    ("at", "kind", "make"), [(0, "nats", NatsServer), (1, "redis", RedisServer), (2, "redis_stream", RedisServer)]
)
async def test_each_example_prints_what_is_published(at: int, kind: str, make: type[Server], tmp_path: Path) -> None:
    assert len(EXAMPLES) == 3
    with make() as server:
        url: str = server.url  # type: ignore[attr-defined]
        program = re.sub(r"(nats|redis)://127\.0\.0\.1:\d+", lambda _: url.removesuffix("/0"), EXAMPLES[at])
        async with running(400, kind=kind, url=url) as (sim, gateway):
            await until(lambda: row(gateway)["published"] > 20, "it publishes")
            program = program.replace("kraken.BTC-USD", f"kraken.{sim.symbols[0]}")
            out = tmp_path / "out"
            with out.open("wb") as into:
                child = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=into, stderr=into)
                try:
                    await until(lambda: out.read_text().count("\n") > 20 or child.poll() is not None, "20 lines")
                    assert child.poll() is None, out.read_text()
                finally:
                    child.kill()
                    child.wait()
        lines = out.read_text().splitlines()
        if kind != "redis_stream":
            assert {line.split()[0] for line in lines[:20]} <= set(sim.symbols)
        else:
            assert any(" trade " in line for line in lines)


@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_tls_trusts_the_named_authority_and_no_other(kind: str, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    key, cert, mine, other = (str(tmp_path / name) for name in ("key", "cert", "mine", "other"))
    made.private_key_pem.write_to_path(key)
    made.cert_chain_pems[0].write_to_path(cert)
    authority.cert_pem.write_to_path(mine)
    stranger.cert_pem.write_to_path(other)
    server: Server
    if kind == "nats":
        server = NatsServer("--tls", "--tlscert", cert, "--tlskey", key)
        url = f"tls://127.0.0.1:{server.port}"
    else:
        server = RedisServer(
            "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", mine, "--tls-auth-clients", "no"
        )
        server.options = ("--tls-port", str(server.port), "--port", "0", *server.options)
        url = f"rediss://127.0.0.1:{server.port}/0"
    with server:
        async with running(kind=kind, url=url, ca_file=mine) as (_, gateway):
            await until(lambda: row(gateway)["published"] > 20, "it is trusted")
        async with running(kind=kind, url=url, ca_file=other) as (_, gateway):
            await until(lambda: row(gateway)["errors"] > 0, "it is not trusted")
            assert row(gateway)["published"] == 0
            assert "certificate verify failed" in row(gateway)["last_error"].lower()


@pytest.mark.parametrize(("kind", "library"), [("nats", "nats"), ("redis", "redis"), ("redis_stream", "redis")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, kind: Any, library: str
) -> None:
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"truetape.io.bus.{library}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    url = "nats://127.0.0.1" if kind == "nats" else "redis://127.0.0.1"
    with pytest.raises(ConfigError, match=rf"sinks\[3\]: .* needs an extra: pip install 'truetape\[{library}\]'"):
        make_bus("sinks[3]", SinkConfig(kind=kind, url=url))
