"""The generated pages say what the code says."""

import re
from pathlib import Path

from docs import generate

HERE = Path(__file__).parent.parent / "docs"


def test_the_config_page_is_fresh() -> None:
    assert (HERE / "config.md").read_text(encoding="utf-8") == generate.config_page(), "stale: run make docs"


def test_the_command_page_is_fresh() -> None:
    assert (HERE / "cli.md").read_text(encoding="utf-8") == generate.cli_page(), "stale: run make docs"


def test_the_page_of_reasons_is_fresh() -> None:
    assert (HERE / "reasons.md").read_text(encoding="utf-8") == generate.reasons_page(), "stale: run make docs"


def test_every_page_that_the_readme_names_is_there() -> None:

    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    missing = [
        name for name in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in name and not (HERE.parent / name).exists()
    ]
    assert not missing, f"README.md points at what is not there: {missing}"
