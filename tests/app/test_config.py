"""A configuration that cannot be used says which key, what was expected and what was found; it never shows a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from truetape.app.config import Config, ConfigError, load, parse, timing
from truetape.app.live import Gateway
from truetape.app.symbols import resolve_all

CANARY = "tk_live_CANARY0123456789"
GOOD = '[[feeds]]\nvenue = "kraken"\nsymbols = ["BTC-USD"]\n'


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(tmp_path: Path, text: str | bytes, environ: dict[str, str] | None = None) -> str:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        resolve_all(load(path, environ or {}))
    said = str(error.value)
    assert said.startswith((str(path), "feed", "TRUETAPE_")), said
    assert "\n" not in said
    return said


def test_the_least_configuration_is_one_feed(tmp_path: Path) -> None:
    config = load(written(tmp_path, GOOD), {})
    feed = config.feeds[0]
    assert (feed.name, feed.channels, feed.depth, config.journal, config.control) == (
        "kraken",
        ["book", "trade"],
        50,
        None,
        None,
    )
    assert [(want.channel, want.raw) for want in resolve_all(config)[0].wants] == [
        ("book", "BTC/USD"),
        ("trade", "BTC/USD"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "depht = 5\n", ["$.feeds[0]", "unknown field `depht`", "depth"]),
        (GOOD + "[journal]\npath = 'x'\n", ["$.journal", "unknown field `path`", "known keys: dir"]),
        (GOOD + "[kontrol]\nsocket = 'x'\n", ["$", "unknown field `kontrol`", "control"]),
        (GOOD + 'depth = "deep"\n', ["$.feeds[0].depth", "expected `int`, got `str`"]),
        (GOOD + "depth = -1\n", ["$.feeds[0].depth", ">= 0"]),
        (GOOD + "depth = 5.5\n", ["$.feeds[0].depth", "int"]),
        (GOOD + "ping_every_s = inf\n", ["$.feeds[0].ping_every_s"]),
        (GOOD + "ping_every_s = nan\n", ["$.feeds[0].ping_every_s"]),
        (GOOD + "jitter = 2\n", ["$.feeds[0].jitter", "<= 1"]),
        (GOOD + '[serve]\nnative = ["kraken", "foo"]\n', ["$.serve.native[1]", "foo", "expected 'binance' or 'kraken' or 'tickdb'"]),
        (GOOD + "[serve.limits]\nconections = 3\n", ["$.serve.limits", "conections", "known keys: connections,"]),
        (GOOD + "[[serve.keys]]\nid = 'a'\nkey = 'env:A'\n", ["$.serve.keys[0]", "known keys: id, alg"]),
        (GOOD + "[serve.tls]\ncert = 'a'\n", ["$.serve.tls", "known keys: cert_file, key_file"]),
        (GOOD + "[log]\nlevels = 'debug'\n", ["$.log", "known keys: level, format"]),
        (GOOD + 'profile = "turbo"\n', ["$.feeds[0].profile", "turbo", "expected 'default' or 'fast' or 'relaxed'"]),
        (GOOD + 'jitter = "half"\n', ["$.feeds[0].jitter", "half", "expected a number or 'full'"]),
        (GOOD + "dial_s = 0\n", ["$.feeds[0].dial_s", "> 0"]),
        (GOOD + "handshake_s = 0\n", ["$.feeds[0].handshake_s", "> 0"]),
        (GOOD + "backoff_first_s = 40\n", ["$.feeds[0].backoff_first_s", "at most backoff_max_s (30 s), found 40"]),
        (GOOD + "[journal]\nsegment_bytes = 10\n", ["$.journal.segment_bytes", "4096"]),
        (GOOD + "[memory]\nbudget_mb = 1\n", ["$.memory.budget_mb", "32"]),
        ('[[feeds]]\nsymbols = ["BTC-USD"]\n', ["$.feeds[0]", "venue"]),
        ('[[feeds]]\nvenue = "kraken"\n', ["$.feeds[0].symbols", "at least one symbol", "truetape symbols kraken"]),
        ('[[feeds]]\nvenue = "kraken"\nsymbols = []\n', ["$.feeds[0].symbols", "at least one symbol"]),
        ('[[feeds]]\nvenue = "kraken"\nsymbols = [""]\n', ["$.feeds[0]", "empty"]),
        ('[[feeds]]\nvenue = "kraken"\nsymbols = "BTC-USD"\n', ["$.feeds[0].symbols", "array"]),
        (GOOD + "channels = []\n", ["$.feeds[0].channels", "at least one channel"]),
        (GOOD + 'channels = ["candles"]\n', ["feed kraken", "channels", "book, trade", "candles"]),
        ('[[feeds]]\nvenue = "krakn"\nsymbols = ["BTC-USD"]\n', ["feed krakn", "kraken", "krakn"]),
        ('[[feeds]]\nvenue = "no.such.module"\nsymbols = ["BTC-USD"]\n', ["no.such.module", "Dialect"]),
        ('[[feeds]]\nvenue = "os.path"\nsymbols = ["BTC-USD"]\n', ["os.path", "Dialect"]),
        (GOOD + GOOD, ["$.feeds[1].name", "kraken", "twice"]),
        (GOOD + GOOD.replace("[[feeds]]", '[[feeds]]\nname = "second"'), ["kraken:BTC-USD", "label"]),
        ("", ["$.feeds", "[[feeds]]"]),
        ("seed = 1\n", ["$.feeds", "[[feeds]]"]),
        ("[feeds]\nvenue = 'kraken'\n", ["$.feeds", "array"]),
        (GOOD + 'url = "kraken.com"\n', ["$.feeds[0].url", "wss://"]),
        (GOOD + 'url = "https://ws.kraken.com"\n', ["$.feeds[0].url", "wss://"]),
        (GOOD + 'url = "wss://"\n', ["$.feeds[0].url", "wss://"]),
        (GOOD + 'rest_url = "ws://x"\n', ["$.feeds[0].rest_url", "https://"]),
        (GOOD + 'proxy = "localhost:8080"\n', ["$.feeds[0].proxy", "socks5://"]),
        ('[[feeds]]\nvenue = "tickdb"\nsymbols = ["BTC-USDT"]\n', ["feed tickdb", "needs a key", "TICKDB_API_KEY"]),
        ("venue = = 3", ["expected TOML", "line 1"]),
        ("feeds = [", ["expected TOML"]),
        ("x = " + "[" * 20_000, ["expected"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_key(tmp_path: Path, text: str | bytes, said: list[str]) -> None:
    found = refused(tmp_path, text)
    assert [word for word in said if word not in found] == [], found


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"gateway\.toml: expected a config file, found nothing; `truetape config --defaults`"
    ):
        load(tmp_path / "gateway.toml", {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    "text",
    [
        GOOD + f'secret = "{CANARY}"\n',
        GOOD + f'secret = "key:{CANARY}"\n',
        GOOD + f'secret = ["{CANARY}"]\n',
        GOOD + 'secret = "env:"\n' + f"# {CANARY}\n",
        GOOD + f'url = "wss://host/path?api_key={CANARY}"\n',
        GOOD + f'url = "wss://host/path?x=1&access_token={CANARY}&y={{secret}}"\n',
        GOOD + f'url = "{CANARY}"\n',
        GOOD + f'rest_url = "https://host/?apiKey={CANARY}"\n',
        GOOD + f'proxy = "{CANARY}@host"\n',
    ],
)  # fmt: skip
def test_a_secret_itself_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    said = refused(tmp_path, text)
    assert CANARY not in said
    assert "$.feeds[0]" in said


def test_a_placeholder_is_no_key(tmp_path: Path) -> None:
    for url in (
        "wss://host/?api_key={secret}",
        "wss://host/?api_key={secret}&v=2",
        "wss://host/?key=",
        "wss://host/stream?streams=btcusdt@depth",
    ):
        assert load(written(tmp_path, GOOD + f'url = "{url}"\nsecret = "env:KEY"\n'), {}).feeds[0].url == url


# -- the environment


def set_by(tmp_path: Path, text: str = GOOD, **environ: str) -> Config:
    return load(written(tmp_path, text), {f"TRUETAPE_{name}": value for name, value in environ.items()})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    config = set_by(
        tmp_path, FEEDS__KRAKEN__DEPTH="10", FEEDS__0__URL="ws://127.0.0.1:1/v2", JOURNAL__DIR="elsewhere", JOURNAL__FLUSH_MS="20",
        FEEDS__KRAKEN__SYMBOLS='["ETH-USD", "BTC-USD"]', CONTROL__SOCKET="s",
    )  # fmt: skip
    feed = config.feeds[0]
    assert (feed.depth, feed.url, feed.symbols) == (10, "ws://127.0.0.1:1/v2", ["ETH-USD", "BTC-USD"])
    assert config.journal is not None
    assert (config.journal.dir, config.journal.flush_ms) == ("elsewhere", 20)
    assert config.control is not None
    assert config.control.socket == "s"


def test_a_feed_is_found_by_number_and_by_a_name_with_dashes_and_capitals(tmp_path: Path) -> None:
    text = GOOD + GOOD.replace("[[feeds]]", '[[feeds]]\nname = "Kraken-Sim"\nlabel = "sim"')
    config = set_by(tmp_path, text, FEEDS__KRAKEN_SIM__DEPTH="7", FEEDS__0__DEPTH="8")
    assert [feed.depth for feed in config.feeds] == [8, 7]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TRUETAPE_FEEDS__NOWHERE__DEPTH": "5"}, ["TRUETAPE_FEEDS__NOWHERE__DEPTH", "nowhere"]),
        ({"TRUETAPE_FEEDS__0": "5"}, ["TRUETAPE_FEEDS__0", "key of a feed"]),
        ({"TRUETAPE_FEEDS__0__DEPTH__X": "5"}, ["$.feeds[0].depth", "TRUETAPE_FEEDS__0__DEPTH__X"]),
        ({"TRUETAPE_FEEDS__0__SYMBOLS__X": "5"}, ["TRUETAPE_FEEDS__0__SYMBOLS__X"]),
        ({"TRUETAPE_SEED__X": "5"}, ["$.seed", "TRUETAPE_SEED__X"]),
        ({"TRUETAPE_JOURNL__DIR": "5"}, ["journl", "TRUETAPE_JOURNL__DIR"]),
        ({"TRUETAPE_JOURNAL__DIR": "5"}, ["$.journal.dir", "TRUETAPE_JOURNAL__DIR"]),
        ({"TRUETAPE_FEEDS__0__DEPTH": "deep"}, ["$.feeds[0].depth", "TRUETAPE_FEEDS__0__DEPTH"]),
        ({"TRUETAPE____": "5"}, ["TRUETAPE____"]),
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_used_is_named(tmp_path: Path, environ: dict[str, str], said: list[str]) -> None:
    found = refused(tmp_path, GOOD, environ)
    assert [word for word in said if word not in found] == [], found


def test_a_secret_in_the_environment_is_refused_like_one_in_the_file(tmp_path: Path) -> None:
    assert CANARY not in refused(tmp_path, GOOD, {"TRUETAPE_FEEDS__0__SECRET": CANARY})


def test_other_variables_are_none_of_our_business(tmp_path: Path) -> None:
    assert load(written(tmp_path, GOOD), {"TRUETAPE_SHARED": "x", "TRUETAPE_SOAK": "1", "PATH": "/bin"}).feeds


# -- what the values become


def test_profiles_and_single_timings(tmp_path: Path) -> None:
    def of(text: str) -> Any:
        return timing(load(written(tmp_path, GOOD + text), {}).feeds[0])

    assert (of("").ping_every_s, of("").pong_within_s) == (2, 2)
    assert (of('profile = "fast"').ping_every_s, of('profile = "fast"').pong_within_s) == (1, 1)
    relaxed = of('profile = "relaxed"\nping_every_s = 3\nbackoff_max_s = 7.5')
    assert (relaxed.ping_every_s, relaxed.pong_within_s, relaxed.backoff_max_s) == (3, 10, 7.5)
    assert of("dead_after_s = 0").dead_after_s == 0


def test_a_certificate_file_that_is_none_is_told_before_anything_is_dialed(tmp_path: Path) -> None:
    for name in ("absent.pem", "gateway.toml"):
        config = parse(
            {"feeds": [{"venue": "kraken", "symbols": ["BTC-USD"], "ca_file": str(tmp_path / name)}]}, "test", {}
        )
        written(tmp_path, GOOD)
        with pytest.raises(ConfigError, match="expected certificates in PEM"):
            Gateway(config)


def test_a_wait_of_nothing_never_grows() -> None:
    feed = {"venue": "kraken", "symbols": ["BTC-USD"], "backoff_first_s": 0}
    with pytest.raises(ConfigError, match=r"feeds\[0\].backoff_first_s: expected more than 0 s"):
        parse({"feeds": [feed]}, "c", {})
