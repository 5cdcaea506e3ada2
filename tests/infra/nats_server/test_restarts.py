"""When a server that died is restarted, and when no more."""

from __future__ import annotations

from penstock.infra.nats_server.restarts import Restarts


def test_each_restart_waits_twice_as_long_as_the_one_before() -> None:
    restarts = Restarts()
    assert [restarts.delay(now) for now in range(5)] == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_a_sixth_restart_within_a_minute_is_refused() -> None:
    restarts = Restarts()
    for now in range(5):
        restarts.delay(now)
    assert restarts.delay(59.9) is None


def test_restarts_longer_ago_than_a_minute_do_not_count() -> None:
    restarts = Restarts()
    for now in range(5):
        restarts.delay(now)
    assert restarts.delay(60.0) == 1.6
    assert restarts.delay(200.0) == 0.1
