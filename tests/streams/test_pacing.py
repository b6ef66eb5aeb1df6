"""How often a consumer fetches: rarely where idle, much at once where there is much."""

import pytest

from streamtable.streams.pacing import longest_fetch_ms, pace


def test_a_consumer_of_many_partitions_asks_less_often() -> None:
    assert longest_fetch_ms(8) == longest_fetch_ms(64) == 50
    # Each second asks for 2000 partitions, however many there are.
    assert longest_fetch_ms(512) == 256
    assert longest_fetch_ms(2000) == 1000


def test_where_records_come_all_the_time_the_broker_gathers_them() -> None:
    few, many = pace(1, 8), pace(100, 8)
    assert few.pause_s > 0
    assert few.least_bytes == 1
    assert many.pause_s == 0
    assert many.least_bytes > 100_000
    assert many.wait_ms == 50


def test_a_consumer_of_many_partitions_pauses_for_longer() -> None:
    assert pace(1, 8).pause_s == pace(1, 128).pause_s == 0.02
    assert pace(100, 500).pause_s == 0
    assert pace(1, 2000).pause_s == pace(1000, 2000).pause_s == pytest.approx(0.2)
    assert pace(1000, 2000).wait_ms == longest_fetch_ms(2000)
