"""Addresses that fail are left alone for a while; the connections of a feed share what they know of them."""

import msgspec

from truetape.app.dialects import Names, dialect
from truetape.core.feed.circuit import COOL_S, FAILURES_MAX, Circuits
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route import checkpoint
from truetape.core.route.pump import Pump
from truetape.model.effect import Effect, Open

S = 1_000_000_000
T0 = 1_780_000_000 * S
HOW = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0.3, healthy_after_s=10)


class World:
    """A feed of three connections with one alternate; `down` addresses refuse, the others accept."""

    def __init__(self, *alternates: str, seed: int = 1) -> None:
        kind = dialect("kraken")
        wants = tuple(Want("trade", f"S{n}/USD", f"S{n}-USD") for n in range(3))
        names = Names(kind, "ws://a/v2")
        self.feed = Feed("f", "f", "kraken", kind, "ws://a/v2", "", wants, names, HOW, False, 1, alternates=alternates)
        self.pump = Pump([self.feed], seed=seed, now=T0)
        self.now, self.down = T0, set[str]()
        self.dials: list[tuple[float, str, str]] = []

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Open):
                self.dials.append(((self.now - T0) / S, effect.source, effect.url))
                if effect.url in self.down:
                    self.take(self.pump.lost(effect.source, "dial_failed: refused", self.now))
                else:
                    self.take(self.pump.opened(effect.source, self.now))

    def cut(self) -> None:
        """Every connection breaks."""
        for source, link in self.pump.links.items():
            if link.session is not None and link.session.state == "OPEN":
                self.take(self.pump.lost(source, "connection_lost: cut", self.now, 1006))

    def until(self, seconds: float) -> None:
        end, ticks = T0 + round(seconds * S), 0
        while (due := self.pump.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self.take(self.pump.tick(self.now))
            ticks += 1
            assert ticks < 20 * seconds + 100, "a storm of timers"
        self.now = end

    def urls(self) -> list[str]:
        return [link.session.url for link in self.pump.links.values() if link.session is not None]

    def states(self) -> list[str]:
        return [row.state for row in self.pump.circuits["f"].rows]


def test_after_some_failures_in_a_row_the_alternate_is_dialed_and_the_first_is_left_alone() -> None:
    world = World("ws://b/v2")
    world.take(world.pump.start(T0))
    world.until(20)
    world.down = {"ws://a/v2"}
    world.cut()
    world.dials.clear()
    world.until(40)
    assert world.urls() == ["ws://b/v2"] * 3 and world.states() == ["OPEN", "CLOSED"]
    failed = [at for at, _, url in world.dials if url == "ws://a/v2"]
    assert len(failed) == FAILURES_MAX and max(failed) < 24
    assert not [at for at in failed if max(failed) < at < max(failed) + COOL_S], "no dials while it cools"


def test_one_connection_probes_and_the_address_is_back_when_that_stays_healthy() -> None:
    world = World("ws://b/v2")
    world.down = {"ws://a/v2"}
    world.take(world.pump.start(T0))
    world.until(60)
    world.down = set()
    world.dials.clear()
    world.cut()
    world.until(62)
    assert sorted(url for _, _, url in world.dials) == ["ws://a/v2", "ws://b/v2", "ws://b/v2"], "one probes, two do not"
    assert world.states()[0] == "HALF_OPEN"
    world.until(75)
    assert world.states() == ["CLOSED", "CLOSED"], "it lasted"
    assert world.urls().count("ws://b/v2") == 2, "who lives elsewhere is left in peace"
    world.cut()
    world.until(80)
    assert world.urls() == ["ws://a/v2"] * 3


def test_a_failed_probe_opens_the_circuit_again() -> None:
    world = World("ws://b/v2")
    world.down = {"ws://a/v2"}
    world.take(world.pump.start(T0))
    world.until(60)
    world.dials.clear()
    world.cut()
    world.until(62)
    assert [url for _, _, url in world.dials].count("ws://a/v2") == 1 and world.states()[0] == "OPEN"
    assert world.urls() == ["ws://b/v2"] * 3


def test_where_all_are_open_the_first_that_has_cooled_is_probed_and_no_timer_storms() -> None:
    world = World("ws://b/v2")
    world.down = {"ws://a/v2", "ws://b/v2"}
    world.take(world.pump.start(T0))
    world.until(300)
    late = [at for at, _, _ in world.dials if at > 30]
    assert late and len(late) <= 2 * (300 / COOL_S + 1), "one probe of each in a cool-down"
    world.down = set()
    world.until(300 + 2 * COOL_S)
    assert {link.session.state for link in world.pump.links.values() if link.session} == {"OPEN"}


def test_a_single_address_is_never_refused() -> None:
    world = World()
    world.down = {"ws://a/v2"}
    world.take(world.pump.start(T0))
    world.until(120)
    gaps = [b - a for (a, *_), (b, *_) in zip(world.dials, world.dials[1:], strict=False)]
    assert world.states() == ["OPEN"] and max(gaps) <= 30, "the usual waits, no cool-down on top"
    world.down = set()
    world.until(165)
    assert world.states() == ["CLOSED"]


def test_circuits_are_part_of_a_checkpoint() -> None:
    one = World("ws://b/v2", seed=5)
    one.down = {"ws://a/v2"}
    one.take(one.pump.start(T0))
    one.until(7)
    two = World("ws://b/v2", seed=5)
    checkpoint.load(two.pump, checkpoint.save(one.pump))
    two.now, two.down = one.now, set(one.down)
    one.dials.clear()
    for world in (one, two):
        world.until(50)
        world.cut()
        world.until(90)
    assert one.dials == two.dials and one.dials
    assert checkpoint.save(one.pump) == checkpoint.save(two.pump)


def test_a_probe_that_stops_leaves_its_place() -> None:
    circuits = Circuits(["a", "b"])
    for _ in range(FAILURES_MAX):
        circuits.failed(0, "f-1", T0)
        circuits.failed(1, "f-1", T0)
    after = T0 + round(COOL_S * S)
    assert circuits.pick("f-1", T0) == -1 and circuits.free_at == after
    assert circuits.pick("f-1", after) == 0
    circuits.left("f-1")
    assert msgspec.to_builtins(circuits.save())[0][0] == "OPEN"
