"""`truetape token`, where a name is no name."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    assert "björn 2: reader" in capsys.readouterr().err
