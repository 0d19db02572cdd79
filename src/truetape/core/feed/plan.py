"""From what is wanted of a feed to connections: which address carries which subscriptions, within what venue, plan and config allow.

A connection is `<feed>-<n>`; at a second address of the venue `<feed>-<address>-<n>`, so that connections at one address never rename those
at another. Which symbol goes where is `spread.py`'s; the channels of one symbol stay together. Rates, where they are given, weigh the
symbols when a feed is laid out; while it runs nothing moves. Where a feed has two
lines, the second of each connection is called like the first, with a `b` behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from truetape.core.feed.session import Timing
from truetape.core.feed.spread import UNIT, Item, spread, weight
from truetape.core.feed.venue import Dialect, Endpoint, Plan, Want, plans

CONNECTION_MAX = 500
"""Default ceiling of symbols on one connection: the founding stress test saw Python clients degrade beyond 600 to 700."""


class Impossible(ValueError):
    """What is wanted does not fit what is allowed; the text says what would."""


class Part(Struct, frozen=True):
    """One connection as it was laid out: its name, and which of the feed's wants it carries (their positions)."""

    name: str
    wants: tuple[int, ...]


class Feed(Struct, frozen=True):
    """One feed, resolved: a dialect and all that is wanted of it. `label` stands as `venue` on its events.

    `per_connection`: symbols on one, 0 for the default; `connections`: exactly so many (fewer only for want of symbols), 0 for as few as
    carry it; `subscriptions_max`: of the whole feed, 0 for no limit. `parts` is the layout once it was made; empty: as `lay` would.
    """

    name: str
    label: str
    venue: str
    dialect: type[Dialect]
    url: str
    rest_url: str
    wants: tuple[Want, ...]
    names: dict[str, str]
    timing: Timing = Timing()
    by_url: bool = False
    per_connection: int = 0
    depth: int = 0
    plan: str = ""
    connections: int = 0
    subscriptions_max: int = 0
    parts: tuple[Part, ...] = ()
    lines: int = 1
    line_urls: tuple[str, ...] = ()
    credential: str = ""  # the secret's reference, never its value: connections that share it share its fate
    alternates: tuple[str, ...] = ()  # other addresses of the same venue, dialed while `url` fails
    market: str = ""


class Allowed(Struct, frozen=True):
    """What limits a feed; 0 means no limit. `subscriptions` and `symbols` are those of one connection, `total` the feed's."""

    connections: int
    subscriptions: int
    symbols: int
    total: int
    sources: Mapping[str, str]
    """Which of venue, plan, config or default each limit comes from."""


def allowed(feed: Feed) -> Allowed:
    """The tightest of the venue's, the plan's and the config's limits. Raises Impossible for a plan that the venue does not sell."""
    limits, plan = feed.dialect.limits, plan_of(feed)
    bought = plan if plan is not None else Plan(0, 0)
    sold = f"plan {feed.plan}"
    venue, most = (limits.connections, "venue"), (bought.connections, sold)
    if feed.lines > 1:
        venue, most = halved(venue, feed.lines), halved(most, feed.lines)
    connections, whose = _least(venue, most, (feed.connections, "config connections"))
    subscriptions, which = _least((limits.wants_per_connection, "venue"))
    total, why = _least(
        (feed.subscriptions_max, "config subscriptions_max"), halved((bought.subscriptions, sold), feed.lines)
    )
    symbols = feed.per_connection or CONNECTION_MAX
    ceiling = "config symbols_per_connection" if feed.per_connection else "default"
    sources = {"connections": whose, "subscriptions": which, "symbols": ceiling, "total": why}
    return Allowed(connections, subscriptions, symbols, total, sources)


def halved(limit: tuple[int, str], lines: int) -> tuple[int, str]:
    """What is left of a limit where each connection is opened on so many lines. Raises Impossible where not even one is."""
    count, whose = limit
    if lines == 1:
        return limit
    if 0 < count < lines:
        raise Impossible(f"lines: expected 1, for {whose} allows {count} connection, found {lines}")
    return count // lines, f"{whose} (on {lines} lines)" if count else whose


def _least(*rows: tuple[int, str]) -> tuple[int, str]:
    return min((row for row in rows if row[0]), key=lambda row: row[0], default=(0, "no limit known"))


def plan_of(feed: Feed) -> Plan | None:
    """The plan that the feed names, None where it names none. Raises Impossible."""
    if not feed.plan:
        return None
    sold = plans(feed.dialect)
    if feed.plan not in sold:
        there = f"one of {', '.join(sold)}" if sold else f"none, for {feed.dialect.name} sells none"
        raise Impossible(f"plan: expected {there}, found {feed.plan!r}")
    return sold[feed.plan]


def subscription(dialect: type[Dialect], want: Want) -> tuple[str, str]:
    """What the venue counts as one: two of our channels may be one of its own."""
    head, _, more = want.channel.partition(".")
    return f"{dialect.channels.get(head, head)}.{more}", want.raw


def subscriptions(dialect: type[Dialect], wants: Sequence[Want]) -> int:
    """How many the venue counts in these."""
    return len({subscription(dialect, want) for want in wants})


def address(feed: Feed, want: Want) -> str:
    """Where a want is offered, without streams named in the URL."""
    return feed.dialect.endpoints([want], feed.url, False)[0].url


def stem(feed: Feed, place: str) -> str:
    """How the connections to an address are called, before their numbers."""
    first = next(iter(feed.dialect.channels))
    usual = address(feed, Want(first, feed.dialect.native("BTC-USDT"), "BTC-USDT"))
    if place == usual or usual.partition("?")[0] == place.partition("?")[0]:
        return feed.name
    here, there = urlsplit(place), urlsplit(usual)
    known = there.path.split("/")
    words = [word for word in here.path.split("/") if word not in known] or [(here.hostname or "").partition(".")[0]]
    return f"{feed.name}-{words[-1] or 'other'}"


class _Group(Struct):
    """What goes to one address: pieces (a symbol's wants, cut only where one connection may not carry them all)."""

    place: str
    pieces: dict[str, list[Want]]
    items: list[Item]
    count: int = 0

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


def _groups(feed: Feed, wants: Sequence[Want], most: int, rates: Mapping[tuple[str, str], float]) -> list[_Group]:
    known = sorted(rates.values())
    usual = weight(known[len(known) // 2]) if known else UNIT
    groups = []
    for endpoint in feed.dialect.endpoints(wants, feed.url, False):
        pieces: dict[str, list[Want]] = {}
        for raw, members in _by_symbol(endpoint.wants).items():
            for number, piece in enumerate(_cut(feed.dialect, members, most)):
                pieces[f"{raw} {number}" if number else raw] = piece
        items = []
        for key, members in pieces.items():
            found = [rate for want in members if (rate := rates.get((want.channel, want.raw))) is not None]
            heavy = weight(sum(found)) if found else usual
            items.append(Item(key, subscriptions(feed.dialect, members), heavy))
        groups.append(_Group(endpoint.url, pieces, items))
    return groups


def _by_symbol(wants: Sequence[Want]) -> dict[str, list[Want]]:
    rows: dict[str, list[Want]] = {}
    for want in wants:
        rows.setdefault(want.raw, []).append(want)
    return rows


def _cut(dialect: type[Dialect], wants: list[Want], most: int) -> list[list[Want]]:
    """One symbol's wants in as few pieces as one connection may carry each."""
    words: dict[tuple[str, str], list[Want]] = {}
    for want in wants:
        words.setdefault(subscription(dialect, want), []).append(want)
    rows = list(words.values())
    size = most or len(rows)
    return [[want for row in rows[at : at + size] for want in row] for at in range(0, len(rows), size)]


def _fewest(group: _Group, limits: Allowed) -> int:
    """The least number of connections that carries a group."""
    sizes = {item.size for item in group.items}
    if len(sizes) == 1:
        (size,) = sizes
        most = limits.subscriptions // size if limits.subscriptions else limits.symbols
        return -(-len(group.items) // min(limits.symbols, most))
    count = max(-(-len(group.items) // limits.symbols), -(-group.size // (limits.subscriptions or group.size or 1)))
    while spread(group.items, count, limits.symbols, limits.subscriptions) is None:
        count += 1
    return count


def _counted(
    feed: Feed, wants: Sequence[Want], limits: Allowed, rates: Mapping[tuple[str, str], float]
) -> list[_Group]:
    """The groups with their numbers of connections; more of them than allowed where it does not fit."""
    groups = _groups(feed, wants, limits.subscriptions, rates)
    for group in groups:
        group.count = _fewest(group, limits)
    for _ in range(
        feed.connections - sum(group.count for group in groups)
    ):  # as many as were asked for: the next one to where it relieves most
        able = [group for group in groups if group.count < len(group.items)]
        if not able:
            break
        max(able, key=lambda group: group.size / group.count).count += 1
    return groups


def fits(feed: Feed, wants: Sequence[Want], limits: Allowed) -> bool:
    """Whether so much is allowed."""
    if limits.total and subscriptions(feed.dialect, wants) > limits.total:
        return False
    groups = _groups(feed, wants, limits.subscriptions, {})
    return not limits.connections or sum(_fewest(group, limits) for group in groups) <= limits.connections


def lay(feed: Feed, rates: Mapping[tuple[str, str], float] | None = None) -> tuple[Part, ...]:
    """The layout; `rates` are messages per second by (channel, raw symbol). Raises Impossible."""
    limits = allowed(feed)
    refuse(feed, limits)
    by_symbol = sorted(feed.wants, key=lambda want: want.raw)  # keeps the order of one symbol's channels
    places = {(want.channel, want.symbol): at for at, want in enumerate(feed.wants)}
    parts = []
    for group in _counted(feed, by_symbol, limits, rates or {}):
        homes = spread(group.items, group.count, limits.symbols, limits.subscriptions)
        assert homes is not None, "cannot be: more connections carry what fewer could"
        name = stem(feed, group.place)
        for number in range(1, group.count + 1):
            mine = [want for key, wants in group.pieces.items() if homes[key] == number for want in wants]
            if mine:
                parts.append(Part(f"{name}-{number}", tuple(places[want.channel, want.symbol] for want in mine)))
    return tuple(parts)


def connections(feed: Feed) -> list[tuple[str, Endpoint]]:
    """The connections that a feed needs, each with its name and what it carries. Raises Impossible."""
    layout = []
    for part in feed.parts or lay(feed):
        wants = [feed.wants[at] for at in part.wants]
        url = feed.dialect.endpoints(wants, feed.url, feed.by_url)[0].url
        layout.append((part.name, Endpoint(url, wants)))
    return layout


def refuse(feed: Feed, limits: Allowed) -> None:
    """Raise Impossible where the wants do not fit, with what would."""
    plan = plan_of(feed)
    if plan is not None and plan.channels:
        lacking = sorted({want.channel for want in feed.wants if want.channel.partition(".")[0] not in plan.channels})
        if lacking:
            raise Impossible(
                f"plan {feed.plan} has no {', '.join(lacking)}: ask for {', '.join(plan.channels)} only{_larger(feed)}"
            )
    if limits.connections < feed.connections:
        raise Impossible(
            f"connections: expected at most {limits.connections}, for {limits.sources['connections']} allows no more,"
            f" found {feed.connections}{_larger(feed)}"
        )
    if fits(feed, feed.wants, limits):
        return
    symbols = list(_by_symbol(feed.wants))
    low, high = 0, len(symbols) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(feed, _of(feed, symbols[:middle]), limits) else (low, middle - 1)
    asked, fitting = subscriptions(feed.dialect, feed.wants), subscriptions(feed.dialect, _of(feed, symbols[:low]))
    raise Impossible(
        f"{_said(limits)}; the config wants {asked:,} subscriptions of {len(symbols):,} symbols: {fitting:,} of {low:,} symbols fit; "
        f"drop {counted(len(symbols) - low, 'symbol')} (in the config's order, from {symbols[low]} on){_larger(feed)}"
    )


def _of(feed: Feed, symbols: Sequence[str]) -> list[Want]:
    kept = frozenset(symbols)
    return [want for want in feed.wants if want.raw in kept]


def counted(number: int, word: str) -> str:
    """`1 symbol`, `1,200 symbols`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _said(limits: Allowed) -> str:
    """The limits in words: `plan pro allows 300 subscriptions on 3 connections`."""
    by = limits.sources
    if limits.total:
        over = (
            f" on {counted(limits.connections, 'connection')}"
            if limits.connections and by["total"] == by["connections"]
            else ""
        )
        return f"{by['total']} allows {counted(limits.total, 'subscription')}{over}"
    if not limits.subscriptions:
        return f"{by['connections']} allows {counted(limits.connections, 'connection')}, {by['symbols']} {limits.symbols:,} symbols on each"
    each = "" if by["subscriptions"] == by["connections"] else f" ({by['subscriptions']})"
    total = limits.connections * limits.subscriptions
    ceiling = f", {by['symbols']} {limits.symbols:,} symbols on each" if limits.symbols < limits.subscriptions else ""
    sockets = counted(limits.connections, "connection")
    return f"{by['connections']} allows {sockets} x {limits.subscriptions:,} subscriptions{each} = {total:,}{ceiling}"


def _larger(feed: Feed) -> str:
    """Which of the venue's plans would do."""
    for name, plan in plans(feed.dialect).items():
        other = replace(feed, plan=name, parts=())
        if plan.connections and plan.connections < feed.lines:
            continue
        lacks = plan.channels and any(want.channel.partition(".")[0] not in plan.channels for want in feed.wants)
        enough = not lacks and plan.connections >= feed.connections and fits(other, other.wants, allowed(other))
        if name != feed.plan and enough:
            number = f"{plan.connections} connection{'s' * (plan.connections > 1)}"
            return f", or choose plan {name} ({plan.subscriptions:,} subscriptions, {number})"
    return ""
