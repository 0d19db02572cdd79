"""Records that grew: what older tapes hold is still read."""

import msgspec

from truetape.model.record import FETCHED, Fetched, Record


def test_an_answer_of_a_tape_that_did_not_keep_retry_after_is_read() -> None:
    old = msgspec.msgpack.encode((FETCHED, "binance-1", 5, "depth:BTCUSDT", 429, b"{}"))
    new = msgspec.msgpack.encode((FETCHED, "binance-1", 5, "depth:BTCUSDT", 429, b"{}", 7.0))
    read = msgspec.msgpack.Decoder(Record).decode
    assert read(old) == Fetched("binance-1", 5, "depth:BTCUSDT", 429, b"{}", -1.0)
    assert read(new) == Fetched("binance-1", 5, "depth:BTCUSDT", 429, b"{}", 7.0)
