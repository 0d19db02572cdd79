"""Exact parsers: times to the nanosecond, digits kept, and what is saved of a damaged frame."""

import msgspec
import pytest
from msgspec import Struct

from truetape.core.feed.parse import TextLevel, decimals, number, peek, rfc3339_ns, salvage, seconds_ns, side, signed

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2000-02-29T12:00:00Z", 951_825_600 * SECOND),
        ("2023-10-25T12:30:45.123456Z", 1_698_237_045_123_456_000),
        ("2023-10-25T12:30:45.123456789999Z", 1_698_237_045_123_456_789),
        ("2023-10-25T14:30:45.5+02:00", 1_698_237_045_500_000_000),
        ("2023-10-25T10:00:45-02:30", 1_698_237_045_000_000_000),
        ("2023-10-25 12:30:45", 1_698_237_045_000_000_000),
        ("1969-12-31T23:59:59Z", -SECOND),
    ],
)
def test_rfc3339_is_exact(text: str, expected: int) -> None:
    assert rfc3339_ns(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2023-13-01T00:00:00Z",
        "2023-10-25",
        "2023-10-25T12:30Z",
        "x" * 10_000,
        "9999-12-31T23:59:59.5Z",
        "1600-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        rfc3339_ns(text)


def test_seconds_keep_every_digit() -> None:
    assert seconds_ns("1534614057.321597") == 1_534_614_057_321_597_000
    assert seconds_ns("1534614057") == 1_534_614_057_000_000_000
    assert seconds_ns("0.1234567899") == 123_456_789
    for text in ("soon", "9" * 11, "9" * 5000):
        with pytest.raises(ValueError):
            seconds_ns(text)


@pytest.mark.parametrize(
    ("step", "expected"), [("0.00100000", 3), ("1", 0), ("10", 0), ("1e-8", 8), ("0.5", 1), ("1E-2", 2), ("1.5e-3", 4)]
)
def test_decimals_of_a_step(step: str, expected: int) -> None:
    assert decimals(step) == expected


@pytest.mark.parametrize("text", ["NaN", "inf", "-inf", "1e400", "-1", "", "one"])
def test_a_number_is_finite_and_not_negative(text: str) -> None:
    with pytest.raises(ValueError):
        number(text)


@pytest.mark.parametrize("text", ["NaN", "inf", "-Infinity", "1e400", "", "one"])
def test_a_signed_number_is_finite(text: str) -> None:
    with pytest.raises(ValueError):
        signed(text)
    assert signed("-0.0001") == -0.0001


def test_number_reads_decimal_text() -> None:
    assert number("45285.2") == 45285.2
    assert number("0") == 0.0
    assert number("1e-8") == 1e-8


def levels(text: str) -> list[TextLevel]:
    return msgspec.json.decode(text, type=list[TextLevel])


def test_a_side_reads_prices_and_sizes_and_passes_over_the_rest() -> None:
    assert side(levels('[["1.50","2.0","0","1"],["1.40","0"]]')) == [(1.5, 2.0), (1.4, 0.0)]


@pytest.mark.parametrize(
    "row", ['["0","1"]', '["-1","1"]', '["NaN","1"]', '["1","NaN"]', '["1","-1"]', '["1e400","1"]']
)
def test_a_side_refuses_what_is_no_level(row: str) -> None:
    with pytest.raises(ValueError):
        side(levels(f'[["1","1"],{row}]'))


class Member(Struct):
    """A member of a frame's list."""

    symbol: str
    price: float


class Message(Struct):
    """A frame with a list of members."""

    data: list[Member] = []
    type: str = ""


MESSAGES = msgspec.json.Decoder(Message, strict=False)
MEMBERS = msgspec.json.Decoder(list[Member], strict=False)
GOOD = b'{"symbol":"A","price":"1.5"}'
BAD = b'{"symbol":"B","price":{}}'


def test_siblings_of_a_damaged_member_survive() -> None:
    data = b'{"type":"update","data":[' + b",".join([BAD, GOOD, BAD, GOOD]) + b"]}"
    message, lost = salvage(data, MESSAGES, "data", ("symbol",))
    assert [member.price for member in message.data] == [1.5, 1.5]
    assert lost == ["B", "B"]
    assert message.type == "update"


def test_a_sound_frame_is_decoded_as_it_is() -> None:
    message, lost = salvage(b'{"data":[' + GOOD + b"]}", MESSAGES, "data", ("symbol",))
    assert (len(message.data), lost) == (1, [])


def test_the_frame_itself_may_be_the_list() -> None:
    members, lost = salvage(b"[" + GOOD + b"," + BAD + b"]", MEMBERS, "", ("name", "symbol"))
    assert (len(members), lost) == (1, ["B"])


def test_a_member_without_a_name_is_lost_without_one() -> None:
    _, lost = salvage(b'{"data":[{"symbol":7,"price":1},5,' + GOOD + b"]}", MESSAGES, "data", ("symbol",))
    assert lost == ["", ""]


@pytest.mark.parametrize(
    "data", [b'{"data":7}', b'{"type":7}', b'"text"', b"[]", b'{"data":[{"symbol":"A"', b'{"data":"\xff"}']
)
def test_damage_outside_a_member_is_an_error(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        salvage(data, MESSAGES, "data", ("symbol",))


class Group(Struct):
    """A list in a list."""

    symbol: str = ""
    rows: list[Member] = []


class Groups(Struct):
    """A frame of them."""

    groups: list[Group] = []


def test_a_member_of_an_inner_list_goes_alone_where_that_list_is_named() -> None:
    decoder = msgspec.json.Decoder(Groups, strict=False)
    data = b'{"groups":[{"symbol":"G","rows":[' + GOOD + b"," + BAD + b']},{"rows":[{"price":[]}]}]}'
    found, lost = salvage(data, decoder, ("groups.rows", "groups"), ("symbol",))
    assert ([len(group.rows) for group in found.groups], lost) == ([1, 0], ["B", ""])
    found, lost = salvage(data, decoder, ("groups",), ("symbol",))
    assert ([len(group.rows) for group in found.groups], lost) == ([], ["G", ""])


def test_a_member_without_a_name_is_called_as_what_it_lay_in() -> None:
    decoder = msgspec.json.Decoder(Groups, strict=False)
    _, lost = salvage(b'{"groups":[{"symbol":"G","rows":[{"price":[]}]}]}', decoder, ("groups.rows",), ("symbol",))
    assert lost == ["G"]


def test_more_than_64_damaged_members_are_an_error() -> None:
    with pytest.raises(msgspec.ValidationError):
        salvage(b'{"data":[' + b",".join([BAD] * 65) + b"]}", MESSAGES, "data", ("symbol",))
    message, lost = salvage(b'{"data":[' + b",".join([BAD] * 63 + [GOOD]) + b"]}", MESSAGES, "data", ("symbol",))
    assert (len(message.data), len(lost)) == (1, 63)


@pytest.mark.parametrize(
    ("data", "expected"), [(b'{"topic":"a.b","data":{"u":[]}}', "a.b"), (b'{"topic":7}', ""), (b"{}", ""), (b"[]", "")]
)
def test_peek_reads_what_a_damaged_frame_still_says(data: bytes, expected: str) -> None:
    assert peek(data, "topic") == expected
