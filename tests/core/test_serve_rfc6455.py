"""The rules of RFC 6455 over parsed frames: joined messages, bounds, UTF-8, control frames, close codes."""

from random import Random

import pytest

from truetape.core.serve.rfc6455 import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Assembler,
    Breach,
    close_payload,
    closing,
    control,
    head,
)  # fmt: skip


def code_of(call: object, *arguments: object) -> int:
    with pytest.raises(Breach) as found:
        call(*arguments)  # type: ignore[operator]
    return found.value.code


def test_fragments_become_the_message_that_they_were_cut_from() -> None:
    for seed in range(200):
        random = Random(seed)
        text = "".join(random.choice("aé€😀") for _ in range(random.randrange(60))).encode()
        cuts = sorted(random.randrange(len(text) + 1) for _ in range(random.randrange(6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assembler = Assembler()
        got = [
            assembler.frame(TEXT if not i else CONTINUATION, i == len(pieces) - 1, False, piece)
            for i, piece in enumerate(pieces)
        ]
        assert got[-1] == ("text", text), f"seed {seed}"
        assert not any(got[:-1]), f"seed {seed}"


def test_text_is_refused_at_the_first_wrong_byte_and_binary_is_not() -> None:
    assert code_of(Assembler().frame, TEXT, False, False, b"ok\xff") == 1007
    assert code_of(Assembler().frame, TEXT, True, False, "é".encode()[:1]) == 1007
    assert Assembler().frame(BINARY, True, False, b"\xff") == ("binary", b"\xff")


def test_order_of_frames_is_held() -> None:
    assert code_of(Assembler().frame, CONTINUATION, True, False, b"") == 1002
    begun = Assembler()
    begun.frame(TEXT, False, False, b"a")
    assert code_of(begun.frame, TEXT, True, False, b"b") == 1002
    assert code_of(Assembler().frame, TEXT, True, True, b"") == 1002
    assert code_of(Assembler().frame, 3, True, False, b"") == 1002


def test_messages_are_bounded_in_bytes_and_fragments_even_empty_ones() -> None:
    assert code_of(Assembler(bytes_max=10).frame, TEXT, True, False, b"x" * 11) == 1009
    many = Assembler(fragments_max=1024)
    many.frame(TEXT, False, False, b"")
    with pytest.raises(Breach) as found:
        for _ in range(1024):
            many.frame(CONTINUATION, False, False, b"")
    assert found.value.code == 1009


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_close_codes_that_may_not_be_sent_are_breaches(code: int) -> None:
    assert code_of(closing, code.to_bytes(2, "big")) == 1002


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999])
def test_close_codes_that_may_be_sent(code: int) -> None:
    assert closing(close_payload(code, "why")) == (code, "why")


def test_close_frames_without_code_half_a_code_and_with_wrong_text() -> None:
    assert closing(b"") == (1005, "")
    assert code_of(closing, b"\x03") == 1002
    assert code_of(closing, b"\x03\xe8\xff") == 1007
    assert len(close_payload(1000, "ü" * 200)) <= 125
    closing(close_payload(1000, "ü" * 200))


def test_control_frames_are_short_and_whole() -> None:
    assert code_of(control, PING, False, False, b"") == 1002
    assert code_of(control, PING, True, False, b"x" * 126) == 1002
    assert code_of(control, 11, True, False, b"") == 1002
    control(CLOSE, True, False, b"")


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_heads_tell_the_size(size: int) -> None:
    made = head(size)
    assert made[0] == 0x81
    told = made[1] if made[1] < 126 else int.from_bytes(made[2:], "big")
    assert told == size
