"""What docs/native.md tells people to write, taken from the page itself. Imported by watchers too, which have no truetape."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/native.md"


def blocks(language: str) -> list[str]:
    """The page's blocks of code."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def code(client: str, **places: str) -> str:
    """The block that begins with this client's name, with other addresses: `ws` and `http` are put for the gateway's and its dialect's."""
    (found,) = (block for block in blocks("python") if block.startswith(f"# {client}"))
    for scheme, place in places.items():
        found, count = re.subn(rf"\b{scheme}://127\.0\.0\.1:8787(/native/\w+)?", place, found)
        assert count == 1, f"{client}: expected one {scheme} address in docs/native.md, found {count}"
    return found
