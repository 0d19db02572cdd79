"""Every timing of a connection, as a feed configures it. Next door: `session.py`, which keeps to them."""

from __future__ import annotations

from msgspec import Struct

from truetape.core.feed.backoff import Jitter


class Timing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every timing of a session, in seconds; 0 turns a watch off."""

    ping_every_s: float = 2.0
    pong_within_s: float = 2.0
    app_ping_every_s: float = -1.0  # -1: as the venue expects
    dead_after_s: float = -1.0  # silence of the whole connection; -1: as the venue expects
    ack_within_s: float = 5.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    jitter: Jitter = 0.3
    attempts_max: int = 0  # 0: no limit
    healthy_after_s: float = 10.0
    handshake_s: float = 10.0
    dial_s: float = 5.0
    close_s: float = 10.0
    lifetime_s: float = -1.0  # of a connection, at the venue; -1: as the venue says, 0: for ever
    late_s: float = 3.0  # later than a subscription's messages use to come
    messages_per_s: float = -1.0  # -1: the venue's own limit
