"""The rules of RFC 6455 that each side must hold the other to, over frames that are parsed already: breaches are named with their close code.

picows parses frames and unmasks them; it leaves reserved bits, fragments, UTF-8, control frames and close codes to us. An `Assembler` is
one connection's; `io.serve.gateway` feeds it with what clients say, `io.net` with what venues and gateways do.
"""

from __future__ import annotations

import codecs
from typing import Literal, TypeAlias

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
CONTROL_MAX = 125
NO_CODE = 1005

Kind: TypeAlias = Literal["text", "binary"]


class Breach(Exception):
    """A frame that breaks the protocol: the close code for it, and what was wrong."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Assembler:
    """Joins fragments to whole messages, within bounds; text is checked as it comes, so that the first wrong byte ends the connection."""

    __slots__ = ("_bytes_max", "_fragments_max", "_kind", "_parts", "_size", "_utf8")

    def __init__(self, bytes_max: int = 64 * 1024, fragments_max: int = 1024) -> None:
        self._bytes_max = bytes_max
        self._fragments_max = fragments_max
        self._kind = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    @property
    def size(self) -> int:
        """Bytes of a message of which not all fragments came yet."""
        return self._size

    def frame(self, opcode: int, fin: bool, reserved: bool, payload: bytes) -> tuple[Kind, bytes] | None:
        """One data frame; returns the message that it completes. Raises Breach."""
        if reserved:
            raise Breach(1002, "expected no reserved bit, for no extension was agreed")
        if opcode == CONTINUATION:
            if not self._kind:
                raise Breach(1002, "a continuation of nothing")
        elif opcode in (TEXT, BINARY):
            if self._kind:
                raise Breach(1002, "a new message inside another")
            self._kind = opcode
        else:
            raise Breach(1002, f"expected an opcode of RFC 6455, found {opcode}")
        self._size += len(payload)
        if self._size > self._bytes_max:
            raise Breach(1009, f"expected a message of at most {self._bytes_max} bytes")
        if self._kind == TEXT:
            try:
                self._utf8.decode(payload, fin)
            except UnicodeDecodeError:
                raise Breach(1007, "expected UTF-8 in a text message") from None
        if not fin:
            self._parts.append(payload)
            if len(self._parts) >= self._fragments_max:
                raise Breach(1009, f"expected a message of at most {self._fragments_max} fragments")
            return None
        kind: Kind = "text" if self._kind == TEXT else "binary"
        data = b"".join((*self._parts, payload)) if self._parts else payload
        self._parts.clear()
        self._kind = self._size = 0
        self._utf8.reset()
        return kind, data


def control(opcode: int, fin: bool, reserved: bool, payload: bytes) -> None:
    """One control frame. Raises Breach."""
    if reserved:
        raise Breach(1002, "expected no reserved bit, for no extension was agreed")
    if opcode not in (CLOSE, PING, PONG):
        raise Breach(1002, f"expected an opcode of RFC 6455, found {opcode}")
    if not fin:
        raise Breach(1002, "expected a control frame in one piece")
    if len(payload) > CONTROL_MAX:
        raise Breach(1002, f"expected a control frame of at most {CONTROL_MAX} bytes")


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry it (RFC 6455, 7.4, and the registry that it names)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def closing(payload: bytes) -> tuple[int, str]:
    """The code and text of a close frame; 1005 where it has none. Raises Breach."""
    if not payload:
        return NO_CODE, ""
    if len(payload) == 1:
        raise Breach(1002, "expected a close code of two bytes")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise Breach(1002, f"expected a close code that may be sent, found {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise Breach(1007, "expected UTF-8 in the reason of a close frame") from None


def head(size: int, opcode: int = TEXT) -> bytes:
    """The header of an unmasked frame in one piece."""
    first = 0x80 | opcode
    if size < 126:
        return bytes((first, size))
    return (
        bytes((first, 126)) + size.to_bytes(2, "big")
        if size < 1 << 16
        else bytes((first, 127)) + size.to_bytes(8, "big")
    )


def close_payload(code: int, text: str) -> bytes:
    """A close frame's payload, its text cut to what fits."""
    if code == NO_CODE:
        return b""
    return code.to_bytes(2, "big") + text.encode()[: CONTROL_MAX - 2].decode("utf-8", "ignore").encode()
