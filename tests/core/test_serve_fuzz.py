"""Whatever a client sends: no exception but a `Breach`, no message that takes long, and an end after ten that are none."""

from __future__ import annotations

import json
import os
import random
import time
from copy import deepcopy
from typing import Any

import msgspec
import pytest

from truetape.core.serve.frames import Encoding
from truetape.core.serve.peer import ERRORS_MAX, Peer, Refused, Rules
from truetape.core.serve.rfc6455 import Assembler, Breach, closing, control

LONG_S = 0.1
"""Promised: no input takes longer."""
FOR_S = 600.0 if os.environ.get("TRUETAPE_SOAK") else 0.7
SOUND: list[dict[str, Any]] = [
    {"type": "subscribe", "id": 1, "symbols": ["kraken:*"], "channels": ["book"], "mode": "conflate", "bound": 10, "depth": 5},
    {"type": "subscribe", "id": 2, "symbols": ["*"], "resume": {"epoch": "e", "offsets": {"a:b:c": 3}, "whole": ["a:b:c"]}},
    {"type": "authenticate", "token": "eyJ.a.b"}, {"type": "ping", "ts": 1}, {"type": "unsubscribe", "id": 1},
    {"type": "have", "id": 1, "epoch": "e", "offsets": {"a:b:c": 3}},
]  # fmt: skip
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1 << 63,
    1 << 70,
    1.5,
    1e308,
    "",
    "\x00",
    "x" * 3000,
    "ü\u202e",
    [],
    {},
    [[]],
    {"a": {}},
    ["*"] * 500,
]


class Desk:
    """Refuses everything."""

    def subscribe(self, *_what: Any) -> Any:
        raise Refused("unknown", "no such symbol")

    def unsubscribe(self, *_what: Any) -> None:
        """Nothing was subscribed."""

    def admit(self, *_what: Any) -> Any:
        raise Refused("bad_token", "no")


def mangled(luck: random.Random, encoding: Encoding) -> bytes:
    """A sound message with something wrong in it, or noise."""
    tree = json.loads(json.dumps(luck.choice(SOUND)))
    for _ in range(luck.randint(0, 3)):
        at = tree
        name = luck.choice([*at, "extra"])
        if isinstance(at.get(name), dict) and luck.random() < 0.5:
            at, name = at[name], luck.choice([*at[name], "more"])
        at[name] = deepcopy(luck.choice(ODD))
    try:
        data = bytearray(json.dumps(tree).encode() if encoding == "json" else msgspec.msgpack.encode(tree))
    except OverflowError:  # MessagePack has no larger numbers
        data = bytearray(b"\xcf" * 9)
    for _ in range(luck.choice([0, 0, 1, 5])):
        cut = luck.randrange(len(data) + 1)
        match luck.randrange(4):
            case 0:
                del data[cut : cut + luck.randint(1, 20)]
            case 1:
                data[cut:cut] = luck.randbytes(luck.randint(1, 8))
            case 2:
                data[cut:cut] = luck.choice(
                    [b"[", b'{"a":', b"\x91", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"]
                ) * luck.randint(1, 5000)
            case _:
                del data[cut:]
    return bytes(data)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_no_message_of_a_client_raises_or_takes_long(encoding: Encoding) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    luck, rules = random.Random(seed), Rules(version="1", epoch="e", tokens=False, messages_per_s=0)
    until, count, ended = time.monotonic() + FOR_S, 0, 0
    peer = Peer(Desk(), rules, encoding, 0)
    while time.monotonic() < until or count < 1000:
        data = mangled(luck, encoding)
        began = time.thread_time()
        answers = peer.message(data, count)
        assert time.thread_time() - began < LONG_S, (seed, count, data[:200])
        assert len(answers) <= 2, (seed, count)
        count += 1
        if peer.ended is not None:
            assert peer.ended.code in (4501, 4505), (seed, count, peer.ended)
            ended += 1
            peer = Peer(Desk(), rules, encoding, count)
    assert ended > count // (ERRORS_MAX * 50), "noise ends it"


def test_no_frame_raises_anything_but_a_breach() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    luck = random.Random(seed)
    until, count, codes, whole = time.monotonic() + FOR_S, 0, set(), 0
    joined = Assembler(2000, 10)
    while time.monotonic() < until or count < 1000:
        payload = luck.choice(
            [luck.randbytes(luck.randrange(200)), "é€𝄞".encode()[luck.randrange(3) :], b"x" * luck.randrange(1500)]
        )
        opcode, fin, reserved = luck.choice([0, 1, 2, 0, 1, 3, 8, 9, 10, 11]), luck.random() < 0.6, luck.random() < 0.05
        began = time.thread_time()
        try:
            if opcode >= 8:
                control(opcode, fin, reserved, payload)
                if opcode == 8:
                    closing(payload)
            elif (got := joined.frame(opcode, fin, reserved, payload)) is not None:
                whole += 1
                assert len(got[1]) <= 2000, seed
                if got[0] == "text":
                    got[1].decode()
        except Breach as breach:
            codes.add(breach.code)
            if opcode < 8:
                joined = Assembler(2000, 10)
        assert time.thread_time() - began < LONG_S, (seed, count)
        count += 1
    assert codes == {1002, 1007, 1009}, (seed, codes)
    assert whole > 0, seed
