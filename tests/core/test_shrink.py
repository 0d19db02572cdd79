"""Delta debugging finds the shortest list that still fails, within its bound."""

from collections.abc import Callable

import pytest

from truetape.core.weather.shrink import shortest


def needs(*wanted: int) -> Callable[[list[int]], bool]:
    return lambda items: set(wanted) <= set(items)


@pytest.mark.parametrize("wanted", [(7,), (0, 19), (3, 9, 12), tuple(range(20)), ()])
def test_what_is_left_is_all_that_is_needed_in_order(wanted: tuple[int, ...]) -> None:
    assert shortest(range(20), needs(*wanted), 1_000) == list(wanted)


def test_it_stops_when_the_tries_are_used_up() -> None:
    tried: list[list[int]] = []

    def fails(items: list[int]) -> bool:
        tried.append(items)
        return {3, 17} <= set(items)

    found = shortest(range(20), fails, 7)
    assert len(tried) <= 7
    assert {3, 17} <= set(found)
