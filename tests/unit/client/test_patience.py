"""When a home's forwarder is looked for again, and for how long."""

from __future__ import annotations

from fxhpc.client.connection.patience import Patience


def test_attempts_that_find_none_come_less_and_less_often() -> None:
    patience = Patience(60.0, 0.0)
    waited = []
    for _ in range(7):
        patience.missed(10.0)
        waited.append(patience.retry_at - 10.0)
    assert waited == sorted(waited)
    assert waited[0] < 0.1
    assert waited[-1] == waited[-2] == 2.0


def test_it_is_over_after_its_time_without_a_forwarder() -> None:
    patience = Patience(60.0, 100.0)
    assert patience.missed(159.0) == 59.0
    assert not patience.is_over(159.0)
    assert patience.is_over(160.0)
    patience.begin(160.0)
    assert not patience.is_over(219.0)
    assert patience.failures == 0


def test_a_forwarder_that_stayed_is_looked_for_at_once_and_anew() -> None:
    patience = Patience(60.0, 0.0)
    patience.missed(0.0)
    patience.attached(1.0)
    patience.lost(500.0, was_attached=True)
    assert patience.retry_at == 0.0
    assert patience.failures == 0
    assert not patience.is_over(559.0)
    assert patience.is_over(560.0)


def test_forwarders_that_die_as_they_start_are_waited_for_and_wear_it_out() -> None:
    patience = Patience(60.0, 0.0)
    often = patience.warning_s
    for died in range(4):
        patience.attached(died)
        patience.lost(died + 0.5, was_attached=died % 2 == 0)
        assert patience.retry_at == 0.0
        assert not patience.none_stays
    waited = []
    for _ in range(6):
        patience.lost(10.0, was_attached=False)
        waited.append(patience.retry_at - 10.0)
    assert patience.none_stays
    assert patience.warning_s > often
    assert waited == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert patience.is_over(60.0)  # their short lives do not count as a forwarder


def test_one_that_stays_ends_the_waiting() -> None:
    patience = Patience(60.0, 0.0)
    for _ in range(6):
        patience.lost(1.0, was_attached=False)
    patience.attached(2.0)
    patience.lost(3.0, was_attached=True)
    assert patience.stillborn == 0
    assert patience.retry_at == 0.0
