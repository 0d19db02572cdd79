"""The generated pages say what the code says."""

import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest

from docs import generate, protocol
from truetape.model.wire import ToClient, ToGateway

HERE = Path(__file__).parent.parent / "docs"


def test_the_config_page_is_fresh() -> None:
    assert (HERE / "config.md").read_text(encoding="utf-8") == generate.config_page(), "stale: run make docs"


def test_the_command_page_is_fresh() -> None:
    assert (HERE / "cli.md").read_text(encoding="utf-8") == generate.cli_page(), "stale: run make docs"


def test_the_page_of_reasons_is_fresh() -> None:
    assert (HERE / "reasons.md").read_text(encoding="utf-8") == generate.reasons_page(), "stale: run make docs"


def test_the_page_of_metrics_is_fresh() -> None:
    assert (HERE / "metrics.md").read_text(encoding="utf-8") == generate.metrics_page(), "stale: run make docs"


def test_every_page_that_the_readme_names_is_there() -> None:

    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    missing = [
        name for name in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in name and not (HERE.parent / name).exists()
    ]
    assert not missing, f"README.md points at what is not there: {missing}"


def test_the_pages_of_the_protocol_are_fresh() -> None:
    assert (HERE / "protocol.md").read_text(encoding="utf-8") == protocol.protocol_page(), "stale: run make docs"
    assert (HERE / "asyncapi.json").read_text(encoding="utf-8") == protocol.asyncapi_page(), "stale: run make docs"


def test_every_message_has_an_example_that_decodes_and_encodes_the_same() -> None:
    text = (HERE / "protocol.md").read_text(encoding="utf-8")
    seen: dict[str, int] = {}
    for block in re.findall(r"```json\n(.*?)\n```", text, re.DOTALL):
        wire = re.sub(r"\n *", "", block).encode()
        union = ToGateway if json.loads(wire)["type"] in map(protocol.named, protocol.UP) else ToClient
        message = msgspec.json.decode(wire, type=union)
        assert msgspec.json.encode(message) == wire
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=union) == message
        seen[protocol.named(type(message))] = seen.get(protocol.named(type(message)), 0) + 1
    assert set(seen) == {protocol.named(cls) for cls in (*protocol.UP, *protocol.DOWN)}


def test_the_asyncapi_page_holds_together() -> None:
    """No schema of AsyncAPI itself is at hand: references resolve, parts are named as version 3.0 names them, examples are valid."""
    document = json.loads((HERE / "asyncapi.json").read_text(encoding="utf-8"))
    assert document["asyncapi"] == "3.0.0"
    assert {"info", "servers", "channels", "operations", "components"} <= set(document)

    def found(ref: str) -> object:
        place = document
        for part in ref.removeprefix("#/").split("/"):
            place = place[part]
        return place

    refs = re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))
    assert refs
    assert all(found(ref) is not None for ref in refs)
    assert {row["action"] for row in document["operations"].values()} == {"send", "receive"}
    used = [ref["$ref"] for row in document["operations"].values() for ref in row["messages"]]
    assert sorted(used) == sorted(f"#/channels/stream/messages/{name}" for name in document["components"]["messages"])
    for message in document["components"]["messages"].values():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **message["payload"],
            "components": document["components"],
        }
        validator = jsonschema.Draft202012Validator(schema)
        validator.check_schema(schema)
        for example in message["examples"]:
            validator.validate(example["payload"])
            with pytest.raises(jsonschema.ValidationError):
                validator.validate({**example["payload"], "type": "nonsense"})
