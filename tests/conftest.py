"""What all tests share: where recorded data lie, and that nothing is skipped where it counts."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded captures; TRUETAPE_SHARED overrules the one beside the clone."""
    folder = (ROOT / os.environ.get("TRUETAPE_SHARED", "../shared") / "data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}; set TRUETAPE_SHARED")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skip is a failure: whatever the test lacks, `.ci/run` has to bring."""
    report = yield
    return refused(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file that skips itself."""
    report = yield
    return refused(report)


def refused(report: Report) -> Report:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped with CI=true: {reason}"
    return report
