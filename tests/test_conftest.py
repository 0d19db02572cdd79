"""A skip is a failure with CI=true, and only there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from floors import ROOT

A_SKIP = "import pytest\ndef test_a(): pytest.skip('no broker here')\n"
A_SKIPPED_FILE = "import pytest\npytest.importorskip('no_such_module')\n"
EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_a(): assert False\n"


@pytest.mark.parametrize(
    ("text", "ci", "fails"),
    [
        (A_SKIP, "true", True),
        (A_SKIP, "", False),
        (A_SKIPPED_FILE, "true", True),
        (A_SKIPPED_FILE, "", False),
        (EXPECTED, "true", False),
    ],
    ids=["a-test", "a-test-at-the-desk", "a-file", "a-file-at-the-desk", "an-expected-failure"],
)
def test_a_skip_fails_where_it_counts(tmp_path: Path, text: str, ci: str, fails: bool) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_x.py").write_text(text)
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_x.py"]
    done = subprocess.run(run, cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False)
    assert (done.returncode not in (0, 5)) == fails, done.stdout
    assert ("skipped with CI=true" in done.stdout) == fails, done.stdout
