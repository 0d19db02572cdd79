"""Few symbols move when others come and go; the load is even, and heavy symbols are told from light ones."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from truetape.core.feed.spread import UNIT, Item, Room, bound, pick, put, spread, weight

SEED = 20_260_529


def items(*names: str, size: int = 1) -> list[Item]:
    return [Item(name, size) for name in names]


def names(count: int, salt: int = 0) -> list[str]:
    return [f"{salt}S{i}" for i in range(count)]


def moved(before: list[Item], after: list[Item], rooms: int, later: int = 0, symbols_max: int = 0) -> int:
    """How many that are in both changed their connection."""
    one = spread(before, rooms, symbols_max, 0)
    two = spread(after, later or rooms, symbols_max, 0)
    assert one is not None
    assert two is not None
    return sum(two.get(key, home) != home for key, home in one.items())


@given(st.integers(1, 120), st.integers(1, 8), st.integers(0, 1000))
def test_one_more_symbol_moves_at_most_one_for_each_other_connection(count: int, rooms: int, salt: int) -> None:
    """While the bound stays; adding and removing are the same seen from either side."""
    all_of_them = names(count + 1, salt)
    if bound(count, rooms) == bound(count + 1, rooms):
        assert moved(items(*all_of_them[:-1]), items(*all_of_them), rooms) <= rooms - 1


@given(st.integers(1, 120), st.integers(1, 8), st.integers(0, 1000))
def test_one_more_symbol_among_full_connections_moves_as_few(count: int, rooms: int, salt: int) -> None:
    tight = -(-(count + 1) // rooms)
    all_of_them = names(count + 1, salt)
    if bound(count, rooms) == bound(count + 1, rooms):
        assert moved(items(*all_of_them[:-1]), items(*all_of_them), rooms, symbols_max=tight) <= rooms - 1


def test_over_many_changes_hardly_anything_moves() -> None:
    """One symbol in, one out, a thousand times: the average is far below the proven bound, and the bound's own steps are in it."""
    random = Random(SEED)
    held, total = names(1000), 0
    for fresh in range(300):
        out = held[:]
        out.remove(random.choice(out))
        total += moved(items(*held), items(*out), 4)
        held = [*out, f"new{fresh}"]
        total += moved(items(*out), items(*held), 4)
    assert total / 600 <= 0.5, f"{total / 600:.2f} a change; seed {SEED}"


def test_a_growing_list_moves_few() -> None:
    """From 100 to 1,000 symbols on 4 connections one by one; each step of the bound lets some return to where they rather were."""
    total = sum(moved(items(*names(n)), items(*names(n + 1)), 4) for n in range(100, 1000, 7))
    assert total / 129 <= 2


def test_one_more_connection_takes_its_share_and_little_else_moves() -> None:
    for rooms in (2, 3, 5, 9):
        rows = items(*names(900))
        share = 900 / (rooms + 1)
        assert moved(rows, rows, rooms, rooms + 1) <= 1.5 * share


@given(st.integers(1, 300), st.integers(1, 12))
def test_no_connection_carries_more_than_an_eighth_above_the_average(count: int, rooms: int) -> None:
    homes = spread(items(*names(count)), rooms, 0, 0)
    assert homes is not None
    sizes = [list(homes.values()).count(room) for room in range(1, rooms + 1)]
    assert max(sizes) <= -(-count // rooms) * 9 / 8 + 1


def test_what_does_not_fit_is_told() -> None:
    assert spread(items(*names(5)), 2, 2, 0) is None
    assert spread(items(*names(4)), 2, 2, 0) is not None
    assert spread(items(*names(4), size=3), 2, 0, 5) is None
    assert spread(items(*names(2), size=3), 2, 0, 5) is not None
    assert spread([], 0, 1, 1) == {}


def test_a_rate_that_is_measured_again_seldom_changes_its_weight() -> None:
    assert weight(1.0) == UNIT
    assert weight(100) == weight(105) == weight(95)
    assert weight(0) == weight(0.01) == 1
    assert [weight(2.0**n) for n in range(5)] == [UNIT * 2**n for n in range(5)]


def test_heavy_symbols_are_told_apart() -> None:
    """Four heavy ones among many light: one on each of four connections."""
    rows = [*[Item(f"H{i}", 1, weight(1000)) for i in range(4)], *[Item(f"L{i}", 1, weight(1)) for i in range(100)]]
    homes = spread(rows, 4, 0, 0)
    assert homes is not None
    assert sorted(homes[f"H{i}"] for i in range(4)) == [1, 2, 3, 4]


def test_a_symbol_that_comes_while_running_goes_where_it_would_have_gone() -> None:
    """With room everywhere, the runtime's choice is the one of a fresh start."""
    rows = items(*names(40))
    homes = spread(rows, 4, 0, 0)
    assert homes is not None
    rooms = [Room(number) for number in range(1, 5)]
    for item in rows[:-1]:
        put(item, rooms[homes[item.key] - 1])
    free = [Room(room.number) for room in rooms]
    chosen = pick(rows[-1], free, 0, 0, 10**9)
    assert chosen is not None
    assert spread(rows[-1:], 4, 0, 0) == {rows[-1].key: chosen.number}
