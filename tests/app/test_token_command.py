"""`truetape token`, where a name is no name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.app.conftest import run
from truetape.app.cli.token import issue
from truetape.app.config import ConfigError

CONFIG = """
[[feeds]]
venue = "kraken"
symbols = ["BTC-USD"]
[serve]
[[serve.keys]]
id = "a"
secret = "env:KEY_OF_THIS_TEST"
"""


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "\x1b[31m", "x" * 101])
def test_a_name_is_one_that_logs_can_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEY_OF_THIS_TEST", "k" * 32)
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigError, match="expected a name of 1 to 100 printable characters"):
        issue(path, name, "reader", ["*"], "1h", "")
    assert issue(path, "björn 2", "reader", ["*"], "1h", "") == 0
    assert "björn 2: role reader" in capsys.readouterr().err


def test_what_is_granted_is_said_plainly_beside_the_token(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(CONFIG)
    secret = {"KEY_OF_THIS_TEST": "k" * 32}
    wide = run("token", "issue", "bob", cwd=tmp_path, env=secret)
    assert len(wide.stdout.split()) == 1, "the token alone"
    assert re.match(
        r"bob: role reader, may read everything \(\*\), for 30d until 20\d\d-.*; --allow and --ttl", wide.stderr
    )
    narrow = run(
        "token", "issue", "bob", "--allow", "kraken:BTC-USD", "--ttl", "1h", "--role", "ops", cwd=tmp_path, env=secret
    )
    assert re.match(r"bob: role ops, may read kraken:BTC-USD, for 1h until [^;]*$", narrow.stderr)
