"""What `deploy/` says is true of this program: metrics exist, rules fire, units and images keep to what they promise."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from truetape.app.metrics import DEFINITIONS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
LABELS = {f"{row.name}{'_bucket' if row.kind == 'histogram' else ''}": set(row.labels) for row in DEFINITIONS}
OUTSIDE = {"instance", "job", "le", "severity"}
"""Labels that Prometheus itself gives."""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"{name} is missing; .ci/run installs it"
        pytest.skip(f"needs {name}")
    return found


def ran(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=DEPLOY)
    assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> list[str]:
    found = re.findall(r"expr: (?:>-\n((?:\s{10,}.*\n)+)|(.*))", (DEPLOY / "alerts.yml").read_text())
    rows = ["".join(row) for row in found]
    for path in DASHBOARDS:
        tree = json.loads(path.read_text())
        rows += [target["expr"] for panel in tree["panels"] for target in panel["targets"]]
        rows += [row["query"] for row in tree["templating"]["list"]]
    return rows


def test_every_metric_and_label_that_dashboards_and_rules_name_exists() -> None:
    rows = expressions()
    assert len(rows) > 30
    used: set[str] = set()
    for text in rows:
        for name, braces in re.findall(r"\b(truetape_\w+)(?:\{([^}]*)\})?", text):
            assert name in LABELS, f"{name} in: {text}"
            used.add(name)
            for label in re.findall(r"(\w+)\s*[=!]~?", braces):
                assert label in LABELS[name] | OUTSIDE, f"{name} has no {label}: {text}"
        for by in re.findall(r"\b(?:by|without) \(([^)]*)\)", text):
            known = set().union(*(LABELS[name] for name in re.findall(r"\btruetape_\w+", text))) | OUTSIDE
            assert {label.strip() for label in by.split(",")} <= known, text
    assert len(used) > 25


def test_a_metric_that_is_not_there_would_be_found() -> None:
    assert "truetape_feed_message_total" not in LABELS


def test_the_rules_are_sound_and_fire_when_they_should() -> None:
    promtool = tool("promtool")
    ran(promtool, "check", "rules", "alerts.yml")
    ran(promtool, "test", "rules", "alerts_test.yml")
    ran(promtool, "check", "config", "--syntax-only", "prometheus.yml")


def test_every_state_that_rules_and_panels_name_is_one() -> None:
    from truetape.app.metrics import STATES as TAPE
    from truetape.app.metrics_feeds import CONNECTIONS, STATES
    from truetape.app.metrics_sinks import REASONS
    from truetape.app.metrics_sinks import STATES as SINKS
    from truetape.core.route.tally import CAUSES

    known = {
        *TAPE,
        *CONNECTIONS,
        *STATES,
        *CAUSES,
        *REASONS,
        *SINKS,
        "network",
        "decode",
        "queue",
        "delivery",
        "dropped",
        "expired",
        "failed",
        "$instance",
    }
    for text in expressions():
        for value in re.findall(r'\b(?:state|stage|reason|result)[=!]~?"([^"]*)"', text):
            assert set(value.split("|")) <= known, text


def test_panels_do_not_lie_over_each_other() -> None:
    for path in DASHBOARDS:
        places: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert max(x for x, _ in cells) < 24
            assert not cells & places, panel["title"]
            places |= cells


def test_the_unit_is_sound_and_hardened(tmp_path: Path) -> None:
    text = (DEPLOY / "truetape.service").read_text()
    for line in (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "DynamicUser=yes",
        "CapabilityBoundingSet=\n",
        "ExecReload=/bin/kill -HUP",
    ):
        assert line in text
    stop_s = int(re.search(r"TimeoutStopSec=(\d+)", text)[1])  # type: ignore[index]
    assert stop_s > 10, "a drain has its ten seconds"
    analyze = tool("systemd-analyze")
    unit = tmp_path / "truetape.service"
    unit.write_text(text.replace("/opt/truetape/bin/truetape", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    complaints = [line for line in done.stderr.splitlines() if "truetape.service" in line]
    assert complaints == []


def test_the_image_is_not_root_and_asks_whether_it_lives() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert "ARG BASE=python:3.11-slim" in lines
    froms = [line for line in lines if line.startswith("FROM ")]
    assert all("${BASE}" in line for line in froms), "no other image"
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001:10001"]
    last = lines[max(place for place, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert any(line.startswith("USER ") for line in last)
    assert any(line.startswith("HEALTHCHECK ") for line in last)
    assert any("/livez" in line for line in last)
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert python == ">=3.11"
    for line in lines:
        for source in re.findall(r"^COPY (?!--from)(.+) \S+$", line):
            for name in source.split():
                assert (ROOT / name).exists(), line


def test_compose_publishes_to_the_loopback_only_and_mounts_what_there_is() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    ports = re.findall(r'ports: \["([^"]*)"\]', text)
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert text.count("read_only: true") == 2
    mounts = re.findall(r"- (\./[^:]+):", text)
    there = [mount for mount in mounts if mount != "./gateway.toml"]  # which a person writes
    assert [mount for mount in there if not (DEPLOY / mount).exists()] == []
