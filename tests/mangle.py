"""Damage for transcripts: what a broken venue, proxy or cable might make of frames and answers, drawn from one seed.

`mangled(transcript, seed)` gives the same transcript with some of its inputs damaged; what was done is told in a list, so that a
failing seed can be read. Frames that are no longer text are kept as surrogate escapes, as `Player` encodes them.
"""

import re
from collections.abc import Callable
from random import Random

from transcript import Step, Transcript

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null')
COLON = re.compile(r"\s*:")
NUMERIC = re.compile(r'"?-?\d+(?:\.\d+)?"?$')
WRONG = ["null", "true", "[]", "{}", '""', '"x"', "0", "[[]]", '{"a":1}', "[1,2,3]", "1.5", '"\\u0000"', "[null]"]
NUMBERS = [
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e308", "1e300", "-1", "-0.0", "0", "1e-400", "18446744073709551616",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 40, "9" * 5000, "1" + "0" * 400, "0.1e5",
    '"NaN"', '"nan"', '"Infinity"', '"1e400"', '"-1"', '"-0"', '"0"', '"1_000"', '"0x10"', '"１２"', '""', '" 1"', '"1 "', '"9e999"',
    '"99999999999999999999"', '"' + "9" * 5000 + '"', '"9999-12-31T23:59:59.999999999Z"', '"0001-01-01T00:00:00Z"',
]  # fmt: skip
DEEP = 3_000
MEGABYTE = 1 << 20


def tokens(text: str, *, keys: bool) -> list[tuple[int, int]]:
    """Where the scalars of a JSON text lie: its keys, or its values."""
    found = []
    for match in TOKEN.finditer(text):
        is_key = match[0][0] == '"' and COLON.match(text, match.end()) is not None
        if is_key == keys:
            found.append(match.span())
    return found


def put(text: str, span: tuple[int, int] | None, new: str) -> str:
    return text if span is None else text[: span[0]] + new + text[span[1] :]


def one_of(spans: list[tuple[int, int]], random: Random) -> tuple[int, int] | None:
    return random.choice(spans) if spans else None


# Each takes the text of an input and gives another


def truncated(text: str, random: Random) -> str:
    return text[: random.randrange(len(text) + 1)]


def bad_utf8(text: str, random: Random) -> str:
    data = text.encode("utf-8", "surrogateescape")
    at = random.randrange(len(data) + 1)
    bad = random.choice([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80" * 9])
    return (data[:at] + bad + data[at:]).decode("utf-8", "surrogateescape")


def flipped(text: str, random: Random) -> str:
    data = bytearray(text.encode("utf-8", "surrogateescape"))
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data.decode("utf-8", "surrogateescape")


def wrong_type(text: str, random: Random) -> str:
    return put(text, one_of(tokens(text, keys=False), random), random.choice(WRONG))


def odd_number(text: str, random: Random) -> str:
    spans = [span for span in tokens(text, keys=False) if NUMERIC.match(text[span[0] : span[1]])]
    return put(text, one_of(spans, random), random.choice(NUMBERS))


def deep(text: str, random: Random) -> str:
    left, right = random.choice([("[", "]"), ('{"a":', "}")])
    depth = random.choice([DEEP, DEEP * 40])
    return put(text, one_of(tokens(text, keys=False), random), left * depth + "1" + right * depth)


def unknown_field(text: str, random: Random) -> str:
    places = [match.end() for match in re.finditer(r"\{(?=\s*\")", text)]
    if not places:
        return text
    at = random.choice(places)
    return (
        text[:at]
        + random.choice(['"brand_new":{"deep":[1,{}]},', '"":null,', '"x":"y",', '"__proto__":[],'])
        + text[at:]
    )


def unknown_word(text: str, random: Random) -> str:
    spans = [span for span in tokens(text, keys=False) if re.match(r'"[A-Za-z_]+"$', text[span[0] : span[1]])]
    return put(
        text, one_of(spans, random), random.choice(['"wibble"', '"BUY"', '"Snapshot"', '"subscribe"', '"error"'])
    )


def renamed_key(text: str, random: Random) -> str:
    return put(text, one_of(tokens(text, keys=True), random), '"renamed"')


def twice_the_key(text: str, random: Random) -> str:
    """The same key with another value behind it: JSON allows it."""
    span = one_of(tokens(text, keys=True), random)
    return text if span is None else put(text, (span[0], span[0]), f"{text[span[0] : span[1]]}:{random.choice(WRONG)},")


def empty(text: str, random: Random) -> str:
    return random.choice(["", " ", "\n", "\x00", "{}", "[]", "null", "0", '""', "true", "[[]]", "[{}]"])


def megabyte(text: str, random: Random) -> str:
    return random.choice([
        "x" * MEGABYTE, "[" * MEGABYTE, '{"a":' * (MEGABYTE // 5), "9" * MEGABYTE, f'"{"y" * MEGABYTE}"', "\x00" * MEGABYTE,
        text[:-1] + " " * MEGABYTE, f"{text}{text}", "[" + "0," * (MEGABYTE // 2) + "0]",
    ])  # fmt: skip


EDITS: list[Callable[[str, Random], str]] = [
    truncated, bad_utf8, flipped, wrong_type, wrong_type, odd_number, odd_number, odd_number, deep, unknown_field, unknown_word,
    renamed_key, twice_the_key, empty, megabyte,
]  # fmt: skip


def mangled(transcript: Transcript, seed: str) -> tuple[Transcript, list[str]]:
    """The transcript with a few of its inputs damaged, repeated, exchanged or gone."""
    random = Random(seed)
    steps = list(transcript.steps)
    done: list[str] = []
    for _ in range(random.randint(1, 4)):
        inputs = [at for at, step in enumerate(steps) if step.kind in "<$"]
        if not inputs:
            break
        at = random.choice(inputs)
        step = steps[at]
        what = random.choices(["edit", "repeat", "exchange", "drop"], [12, 2, 2, 1])[0]
        if what == "edit":
            edit = random.choice(EDITS)
            head, text = (
                (step.text[: step.text.find("{")], step.text[step.text.find("{") :])
                if step.kind == "$"
                else ("", step.text)
            )
            steps[at] = Step(step.where, step.kind, step.conn, head + edit(text, random))
            what = edit.__name__
        elif what == "repeat":
            again = random.randint(1, 30)
            steps[at:at] = [step] * again
            what = f"repeated {again} times"
        elif what == "exchange":
            other = random.choice(inputs)
            steps[at], steps[other] = steps[other], step
            what = f"exchanged with {steps[at].where}"
        else:
            del steps[at]
        done.append(f"{step.where} {what}")
    return Transcript(transcript.path, transcript.venue, steps), done
