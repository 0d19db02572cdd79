"""The downstream protocol: every message that a client and the gateway exchange, the same on WebSocket and Unix socket.

One message is one object with a `type`; JSON by default (`truetape.v1.json`), MessagePack by sub-protocol (`truetape.v1.msgpack`). Times
are ns since the epoch, durations in the unit of their name. docs/protocol.md has an example of each; docs/asyncapi.json is made from these.

    client                                   gateway
      |  <------------------------- hello      at once: epoch, limits, whether a token is needed
      |  authenticate ------------------->     only where one is needed, and it was not in the header
      |  <----------------- authenticated
      |  subscribe (id 1) --------------->     patterns, delivery mode, where to resume
      |  <------------ subscribed (id 1)       topics with offset, and for a resumption `recovered`
      |  <------------------------- data       events in order, several in a frame; gaps, lags and statuses stand among them
      |  <-------------------------- bye       why it ends, and whether to come back
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from truetape.model.event import Market

PROTOCOL = "truetape.v1"
JSON, MSGPACK = f"{PROTOCOL}.json", f"{PROTOCOL}.msgpack"

Text: TypeAlias = Annotated[str, Meta(max_length=256)]
Number: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Delivery: TypeAlias = Literal["drop_oldest", "drop_newest", "conflate", "max_age", "disconnect"]
MODES: tuple[Delivery, ...] = ("drop_oldest", "drop_newest", "conflate", "max_age", "disconnect")


class Authenticate(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="authenticate"):
    """Who the client is; also renews a token before it expires."""

    token: Annotated[str, Meta(max_length=8192)]


class Resume(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a client's own copy of this subscription ends: the epoch of `hello`, and of each topic (`trade:kraken:BTC-USD`) the last offset.

    A topic that the patterns match and that is not named here, of the same epoch, appeared meanwhile: it is gone on with from its beginning.
    `whole`: topics of which changes are no use, for the client has no book to apply them to; they begin with a whole one.
    """

    epoch: Text
    offsets: dict[Text, Number]
    whole: list[Text] = []


class Subscribe(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="subscribe"):
    """One subscription with a box of its own, by patterns (`venue:SYMBOL`, `venue:*`, `*`) and channels.

    The channel `status` carries no data, only notices: at once how every connection and subscription is, then each change and each gap.

    `mode` says what gives way when the client is slower than the market: beyond `bound` waiting events (`drop_oldest`, `drop_newest`,
    `disconnect`), by time (`max_age`, older than `max_age_ms`), or always the latest of each topic (`conflate`, each `conflate_ms`).
    `depth`: levels of whole books, 0 all.
    """

    id: Number
    symbols: Annotated[list[Text], Meta(min_length=1, max_length=5000)]
    channels: Annotated[list[Text], Meta(min_length=1, max_length=32)] = field(
        default_factory=lambda: ["book", "trade"]
    )
    mode: Delivery = "drop_oldest"
    bound: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    depth: Annotated[int, Meta(ge=0, le=10_000)] = 0
    conflate_ms: Annotated[float, Meta(ge=0, le=3_600_000)] = 0
    max_age_ms: Annotated[float, Meta(gt=0, le=3_600_000)] = 1000
    resume: Resume | None = None


class Have(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="have"):
    """A part of what the client has, where `resume` is too long for one message: any number of these, before the subscribe of this id."""

    id: Number
    resume: Resume


class Unsubscribe(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="unsubscribe"):
    """End the subscription that was asked for with this id."""

    id: Number


class Ping(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ping"):
    """Answered with a pong that carries `ts` back, and the gateway's clock."""

    ts: int = 0


ToGateway: TypeAlias = Authenticate | Have | Subscribe | Unsubscribe | Ping
"""What a client may say."""


class Bounds(Struct, frozen=True):
    """What this gateway allows one client; 0 is no limit."""

    message_bytes: int
    messages_per_s: float
    subscriptions: int
    idle_s: float
    history: int


class Hello(Struct, frozen=True, tag_field="type", tag="hello"):
    """The gateway's first message. Offsets count within `epoch`; `token` is `required` or `none`."""

    protocol: str
    version: str
    epoch: str
    now: int
    token: Literal["required", "none"]
    authenticate_within_s: float
    bounds: Bounds


class Authenticated(Struct, frozen=True, tag_field="type", tag="authenticated"):
    """The token was taken: who that is, what it may read, until when (ns, 0 for ever)."""

    name: str
    role: str
    allow: list[str]
    expires: int


class TopicAt(Struct, frozen=True, omit_defaults=True):
    """One topic of a subscription. Events after `offset` follow; `recovered` answers a resumption (null where none was asked for)."""

    topic: str
    offset: int
    recovered: bool | None = None


class Subscribed(Struct, frozen=True, tag_field="type", tag="subscribed"):
    """A subscription stands. Topics that appear later (a pattern's) begin at offset 0."""

    id: int
    topics: list[TopicAt]


class Unsubscribed(Struct, frozen=True, tag_field="type", tag="unsubscribed"):
    """A subscription ended, by the client's wish or, with `reason`, by the gateway's: what waited for it was dropped."""

    id: int
    reason: str = ""


class Data(Struct, frozen=True, tag_field="type", tag="data"):
    """Events of one subscription, in order: objects with a `kind` and its fields; notices (gap, lagged, status) stand among them.

    `offsets`: how far this message brings the client in each topic of which it has events; what to resume with.
    """

    id: int
    events: list[Market]
    offsets: dict[str, int] = {}


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    """Answers a ping."""

    ts: int
    now: int


class Error(Struct, frozen=True, tag_field="type", tag="error"):
    """A message could not be followed; the connection goes on. `id` is the message's own, even where the rest is wrong; -1 without one."""

    reason: str
    text: str
    id: int = -1


class Bye(Struct, frozen=True, tag_field="type", tag="bye"):
    """The gateway ends the connection, with the close code that follows. 4000-4499: come back, after `retry_after_s` (and some chance)."""

    code: int
    reason: str
    text: str
    retry_after_s: float = -1.0


ToClient: TypeAlias = Hello | Authenticated | Subscribed | Unsubscribed | Data | Pong | Error | Bye
"""What the gateway may say."""


class Closing(Struct, frozen=True):
    """A way to end: the close code, its name, what a person is told, and whether a client should come back."""

    code: int
    reason: str
    text: str

    @property
    def again(self) -> bool:
        """Whether it is worth coming back."""
        return come_back(self.code)


def come_back(code: int) -> bool:
    """What a client does about a close code: 1006 stands for an end without one."""
    return 4000 <= code < 4500 or code in (1001, 1005, 1006, 1011, 1012, 1013)


_CLOSINGS = (
    Closing(1000, "done", "the client is done"),
    Closing(1002, "protocol_error", "a frame breaks RFC 6455"),
    Closing(1003, "wrong_kind", "expected text for JSON and binary for MessagePack"),
    Closing(1007, "not_utf8", "a text message is not UTF-8"),
    Closing(1008, "policy", "too many messages or connections"),
    Closing(1009, "too_big", "a message has too many bytes or fragments"),
    Closing(1011, "gateway_error", "something failed in the gateway"),
    Closing(1013, "try_later", "the gateway has no room now"),
    Closing(4000, "draining", "the gateway ends; another may take over"),
    Closing(4001, "too_slow", "the client took too little for too long"),
    Closing(4002, "idle", "nothing was heard for too long"),
    Closing(4003, "memory", "the gateway's memory is short"),
    Closing(4500, "no_token", "no token came in time"),
    Closing(4501, "bad_token", "the token is wrong"),
    Closing(4502, "expired", "the token has expired"),
    Closing(4503, "revoked", "the token was revoked"),
    Closing(4504, "forbidden", "the token does not allow this"),
    Closing(4505, "bad_message", "a message is not of the protocol"),
    Closing(4506, "bad_origin", "this origin is not allowed"),
)  # fmt: skip
CLOSINGS: dict[str, Closing] = {row.reason: row for row in _CLOSINGS}
"""Every way a connection may end, by its name."""
