"""Simulators for other people's tests: the plugin's fixture, the documented example, and what the gateway must not need."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import truetape
from conftest import ROOT
from tests.app.conftest import all_live, until
from truetape.app import cert
from truetape.app.config import ConfigError
from truetape.app.stage import Stage

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def test_the_documented_example_passes_as_a_users_pytest_runs_it() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "truetape.testing",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        "examples",
    ]
    done = subprocess.run(
        [*command, "-c", os.devnull, "examples/test_my_strategy.py"], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_plugin_is_declared_once_and_under_its_modules_name() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\n"truetape.testing" = "truetape.testing"' in text
    assert all(point.name == point.value for point in entry_points(group="pytest11") if "truetape" in point.value)


def test_the_gateway_imports_no_pytest() -> None:
    code = "import sys, truetape, truetape.app.live, truetape.app.stage, truetape.app.cli.main; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Stage("nasdaq"), "expected one of binance, kraken, tickdb"),
        (lambda: Stage("kraken", faults="explode@1s"), "explode"),
        (lambda: Stage("kraken", faults=["seq-reset@1s"]), "seq-reset does not apply to kraken"),
    ],
)
def test_what_cannot_be_staged_is_said(make: Callable[[], Stage], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_stage_pauses_breaks_and_ends() -> None:
    with Stage("binance", rate=1000) as sim:
        sim.pause()
        before = sim.book("BTC-USDT", 3)
        assert sim.book("binance:BTC-USDT", 3) == before and len(before[0]) == 3
        sim.fault("clock-jump=5")
        with pytest.raises(ConfigError, match="cert-swap does not apply"):
            sim.fault("cert-swap")
        sim.resume()
        while sim.book("BTC-USDT", 3) == before:
            pass
    sim.stop()


@pytest.mark.parametrize(("pins", "returns"), [((), True), (("first", "second"), True), (("first",), False)])
async def test_a_swapped_certificate_is_met_by_its_pin_or_refused(
    pins: tuple[str, ...], returns: bool, tmp_path: Path
) -> None:
    with Stage("kraken", tls=str(tmp_path)) as sim:
        held = [cert.pin(tmp_path, name) for name in pins]
        async with truetape.open(sim.config(pins=held, backoff_first_s=0.1, backoff_max_s=0.2)) as gateway:
            assert await gateway.ready()
            sim.fault("cert-swap")
            await until(gateway, lambda: not all_live(gateway))
            if returns:
                await until(gateway, lambda: all_live(gateway))
                return
            await until(gateway, lambda: "pin" in gateway.status()["connections"][0]["reason"])
            assert not all_live(gateway)
