"""Makes docs/asyncapi.json and docs/protocol.md from the structs of the downstream protocol: `make docs` (see generate.py)."""

import json
import re
from typing import Any, get_args

import msgspec

import truetape
from truetape.model import wire
from truetape.model.event import KINDS, Book, Gap, Lagged, Status, Trade

KRAKEN = {"venue": "kraken", "symbol": "BTC-USD", "raw": "BTC/USD"}
NOW = 1_795_236_781_715_703_645
EVENTS = [
    Lagged("kraken", "BTC-USD", "book_delta", 42, "not_recovered"),
    Book(
        **KRAKEN,
        ts=NOW - 900_000,
        recv=NOW,
        bids=[(67111.8, 0.25), (67111.7, 1.5)],
        asks=[(67128.3, 0.00471941)],
        snapshot=True,
        depth=10,
    ),
    Book(**KRAKEN, ts=NOW, recv=NOW + 800_000, bids=[(67111.8, 0.0)], asks=[]),
    Trade(**KRAKEN, ts=NOW, recv=NOW + 800_000, price=67111.8, size=0.25, side="sell", id="4665906"),
    Gap(
        **KRAKEN,
        recv=NOW,
        channel="book",
        from_ts=NOW - 3_000_000_000,
        to_ts=NOW,
        reason="connection_lost",
        recovered=True,
        healed="snapshot",
    ),
    Status(
        **KRAKEN,
        recv=NOW,
        channel="book",
        state="LIVE",
        reason="snapshot",
        evidence="checksum",
        since=NOW,
        threshold_s=3.0,
    ),
]
BOUNDS = wire.Bounds(message_bytes=65536, messages_per_s=20.0, subscriptions=100, idle_s=300.0, history=300)
RESUME = wire.Resume("18ea1d0f9c1b2a3d", {"book_delta:kraken:BTC-USD": 1044, "trade:kraken:BTC-USD": 310})
OFFSETS = {"book_delta:kraken:BTC-USD": 1088, "trade:kraken:BTC-USD": 311}
EXAMPLES: dict[type, list[Any]] = {
    wire.Authenticate: [wire.Authenticate("eyJhbGciOiJIUzI1NiIsImtpZCI6Im9sZCJ9.e30.c2lnbmF0dXJl")],
    wire.Subscribe: [
        wire.Subscribe(1, ["kraken:BTC-USD", "binance:*"], ["book"], "conflate", depth=10, conflate_ms=100.0, max_age_ms=1000.0),
        wire.Subscribe(2, ["kraken:BTC-USD"], ["book_delta", "trade"], conflate_ms=0.0, max_age_ms=1000.0, resume=RESUME),
    ],
    wire.Have: [wire.Have(2, wire.Resume("18ea1d0f9c1b2a3d", {"trade:kraken:ETH-USD": 92}))],
    wire.Unsubscribe: [wire.Unsubscribe(1)],
    wire.Ping: [wire.Ping(NOW)],
    wire.Hello: [wire.Hello(wire.PROTOCOL, truetape.__version__, "18ea1d0f9c1b2a3d", NOW, "required", 5.0, BOUNDS)],
    wire.Authenticated: [wire.Authenticated("bob", "reader", ["kraken:*/book", "kraken:*/trade"], NOW + 86_400_000_000_000)],
    wire.Subscribed: [
        wire.Subscribed(2, [wire.TopicAt("book_delta:kraken:BTC-USD", 1086, False), wire.TopicAt("trade:kraken:BTC-USD", 310, True)])
    ],
    wire.Unsubscribed: [wire.Unsubscribed(1), wire.Unsubscribed(3, "too slow: more than 1000 events waited")],
    wire.Data: [wire.Data(2, EVENTS, OFFSETS)],
    wire.Pong: [wire.Pong(NOW, NOW + 150_000)],
    wire.Error: [wire.Error("forbidden", "the token of bob does not allow binance:*/book", 1)],
    wire.Bye: [wire.Bye(4000, "draining", "the gateway ends", 2.5)],
}  # fmt: skip
UP, DOWN = get_args(wire.ToGateway), get_args(wire.ToClient)

HEAD = """# The downstream protocol

Version `{protocol}`. One message is one object with a `type`; this page is made from the structs of `truetape.model.wire`, and so is
[asyncapi.json](asyncapi.json), for tools. [clients.md](clients.md) has ready clients, for which none of this need be known.

## Doors

- **WebSocket** at `/v1/stream`, sub-protocol `{json}` (text frames; also where none is named) or `{msgpack}` (binary frames).
- **Unix socket** (`[serve] socket`), for programs of the gateway's own user: the client first sends one line with the sub-protocol's name,
  then both sides send each message with its length before it, four bytes, big-endian. No token is asked for.
- **Tokens**, where the gateway asks for them: `Authorization: Bearer …` in the handshake, or the first message. In the address only if the
  gateway's configuration allows it, and better not.

MessagePack carries the same objects with the same names; numbers are whole or floats of 64 bits, prices never texts. Times are ns since the
epoch, beyond what a JavaScript number holds exactly: use `BigInt`, or accept 256 ns. Fields that have their default may be left out of events
and of `subscribed`. New fields may come within a version: ignore those that you do not know. What a client sends is checked strictly.

## A conversation

```
client                                   gateway
  |  <------------------------- hello      at once: epoch, limits, whether a token is needed
  |  authenticate ------------------->     only where one is needed, and it was not in the header
  |  <----------------- authenticated
  |  subscribe (id 1) --------------->     patterns, delivery mode, where to resume
  |  <------------ subscribed (id 1)       topics with offset, and for a resumption `recovered`
  |  <------------------------- data       events in order, several in a message
  |  <-------------------------- bye       why it ends, and whether to come back; then the close code
```
"""

RESUMING = """## Resuming

A topic (`trade:kraken:BTC-USD`) counts what is published on it; an offset is that count. `subscribed` says where each topic of the
subscription begins, and each `data` message how far it brings the client in the topics that it has events of. Keep the latest; they count
within the `epoch` of `hello`. When a connection breaks, say them in the `resume` of the next `subscribe`:

- `recovered: true`: what was published after the offset follows, exactly and in order, then what is new.
- `recovered: false`: the bounded history (`[serve] history` events of each topic, kept `linger_s` after the last client left) does not
  reach back so far, or the epoch is another. A `lagged` with reason `not_recovered` stands where events are missing and says how many (-1:
  unknown, the epoch is another); for a book the whole state follows.
- A topic that the patterns match and `resume` does not name appeared while the client was away: it comes from its first event on.
- A `resume` too long for one message (64 KiB) goes in parts: any number of `have`, then `subscribe` with the rest.
- `whole` names books that the client cannot go on with, for after a `lagged` their whole state had not come yet.

Order holds within a topic. Notices (`gap`, `status`) stand among the events where they were published, and may be told a second time after a
resumption. A `lagged` may be cut off by a second break right after `subscribed`: a client takes `recovered: false` itself for the loss.

## Applying `book_delta`

1. A `book` with `snapshot: true` replaces the whole book: `bids` best first, `asks` best first.
2. Another replaces levels: for each `[price, size]` set that price's size, and remove the price where size is 0. Order is the venue's.
3. After a `lagged` of topic `book_delta` the book is not to be used until the next `snapshot`.
4. `depth` is what the venue maintains: where it is not 0, drop levels beyond it on each side after each change.

A client that wants no bookkeeping subscribes to `book`: whole states, to the depth that it asked for.

## Ends

A `bye` says why and is followed by the close code. Codes 4000-4499, the standard's 1001, 1011, 1012, 1013, or no close frame: come back,
not before `retry_after_s` where it is not negative, at waits that double and are spread by chance. Others: do not, a person must act.

| code | reason | come back | what happened |
|---|---|---|---|
"""


def named(cls: type) -> str:
    """A message's `type`."""
    return str(cls.__struct_config__.tag)  # type: ignore[attr-defined]


def text_of(cls: type) -> str:
    """Its docstring as one paragraph or more."""
    return re.sub(r"\n    ", "\n", cls.__doc__ or "").strip()


def pretty(message: Any) -> str:
    """An example as it goes over the wire, its lines broken where it is long."""
    said = msgspec.json.encode(message)
    if len(said) <= 120 or not isinstance(message, wire.Data):
        return said.decode()
    head, tail = said.split(b'"events":[', 1)
    events = [msgspec.json.encode(event).decode() for event in message.events]
    rest = tail.decode().rpartition('],"offsets"')[2]
    return head.decode() + '"events":[\n  ' + ",\n  ".join(events) + '\n],"offsets"' + rest


def protocol_page() -> str:
    """`docs/protocol.md`."""
    rows = [HEAD.format(protocol=wire.PROTOCOL, json=wire.JSON, msgpack=wire.MSGPACK)]
    for title, classes in (("What a client says", UP), ("What the gateway says", DOWN)):
        rows.append(f"## {title}\n")
        for cls in classes:
            rows.append(f"### {named(cls)}\n\n{text_of(cls)}\n")
            rows += [f"```json\n{pretty(example)}\n```\n" for example in EXAMPLES[cls]]
    rows.append("## Events\n\n`kind` says which; " + "; ".join(f"`{kind}`" for kind in KINDS.values()) + ".\n")
    for cls, kind in KINDS.items():
        fields = ", ".join(f"`{name}`" for name in cls.__struct_fields__ if name != "marks")  # type: ignore[attr-defined]
        rows.append(f"- **{kind}**: {text_of(cls).partition(chr(10) + chr(10))[0]} Fields: {fields}.")
    rows.append("\n" + RESUMING.rstrip())
    for row in wire.CLOSINGS.values():
        rows.append(f"| {row.code} | `{row.reason}` | {'yes' if row.again else 'no'} | {row.text} |")
    return "\n".join(rows) + "\n"


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0, as the gateway sees it: it receives what clients say, and sends what they hear."""
    classes = [*UP, *DOWN]
    refs, schemas = msgspec.json.schema_components(classes, ref_template="#/components/schemas/{name}")
    messages = {
        named(cls): {
            "name": named(cls),
            "title": cls.__name__,
            "summary": text_of(cls).partition("\n")[0],
            "contentType": "application/json",
            "payload": ref,
            "examples": [{"payload": msgspec.json.decode(msgspec.json.encode(one))} for one in EXAMPLES[cls]],
        }
        for cls, ref in zip(classes, refs, strict=True)
    }
    channel = "#/channels/stream"

    def operation(action: str, which: tuple[type, ...], summary: str) -> dict[str, Any]:
        refs = [{"$ref": f"{channel}/messages/{named(cls)}"} for cls in which]
        return {"action": action, "channel": {"$ref": channel}, "summary": summary, "messages": refs}

    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "truetape, downstream", "version": wire.PROTOCOL.rpartition("v")[2] + ".0.0",
            "description": "Market data for many clients of one gateway. In prose, with resuming and close codes: protocol.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {"host": "127.0.0.1:8787", "protocol": "ws", "description": f"Sub-protocols {wire.JSON} and {wire.MSGPACK}."},
            "team": {"host": "gateway.example:8787", "protocol": "wss", "security": [{"$ref": "#/components/securitySchemes/token"}]},
        },
        "channels": {
            "stream": {
                "address": "/v1/stream", "description": "One connection; also on a Unix socket, with four bytes of length before each message.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "fromClient": operation("receive", UP, "What a client says."),
            "toClient": operation("send", DOWN, "What the gateway says."),
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "messages": messages,
            "schemas": schemas,
        },
    }  # fmt: skip


def asyncapi_page() -> str:
    """`docs/asyncapi.json`."""
    return json.dumps(asyncapi(), indent=1, ensure_ascii=False) + "\n"
