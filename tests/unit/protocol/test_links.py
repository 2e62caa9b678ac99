"""What makes messages arrive once and in order, or the loss be noticed; over a link with faults."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxhpc.protocol import codec
from fxhpc.protocol import messages as msg
from fxhpc.protocol.link import Envelope, Link, Verdict
from fxhpc.testing.clock import FakeClock
from fxhpc.testing.link import LossyLink


def test_messages_in_order_are_delivered() -> None:
    here, there = Link(7), Link(7)
    assert [there.check(here.stamp(None)) for _ in range(3)] == [Verdict.DELIVER] * 3


def test_a_repeated_message_is_dropped_and_a_gap_breaks_the_link() -> None:
    link = Link(7)
    assert link.check(Envelope(7, 0, None)) is Verdict.DELIVER
    assert link.check(Envelope(7, 0, None)) is Verdict.REPEATED
    assert link.check(Envelope(7, 2, None)) is Verdict.BROKEN
    assert link.check(Envelope(7, 1, None)) is Verdict.DELIVER


def test_another_session_is_stale() -> None:
    assert Link(7).check(Envelope(8, 0, None)) is Verdict.STALE


def make() -> LossyLink[msg.FromManager, msg.ToManager]:
    numbers = count(1)
    link = LossyLink(codec.FROM_MANAGER, codec.TO_MANAGER, msg.Register, lambda: next(numbers))
    link.greet(msg.Register("m", b"", 1, "1"))
    assert isinstance(link.deliver_up(), msg.Register)
    return link


def test_both_sides_speak() -> None:
    link = make()
    link.say(msg.Heartbeat())
    assert link.answer(msg.Drain())
    assert isinstance(link.deliver_up(), msg.Heartbeat)
    assert isinstance(link.deliver_down(), msg.Drain)


def test_a_loss_on_the_way_up_is_answered_by_reset_and_heals_with_a_greeting() -> None:
    link = make()
    link.say(msg.Returned([]))
    link.say(msg.Heartbeat())
    link.up.drop()
    assert link.deliver_up() is None
    assert link.deliver_down() is None
    assert link.broken
    link.greet(msg.Register("m", b"", 1, "1"))
    assert not link.broken
    assert isinstance(link.deliver_up(), msg.Register)


def test_a_loss_on_the_way_down_is_noticed() -> None:
    link = make()
    link.answer(msg.Drain())
    link.answer(msg.Heartbeat())
    link.down.drop()
    assert link.deliver_down() is None
    assert link.broken


def test_who_is_not_known_any_more_has_to_greet() -> None:
    link = make()
    link.forget()
    assert not link.answer(msg.Drain())
    link.say(msg.Heartbeat())
    assert link.deliver_up() is None
    link.deliver_down()
    assert link.broken


def test_an_answer_to_an_earlier_session_is_dropped() -> None:
    link = make()
    link.answer(msg.Drain())
    link.greet(msg.Register("m", b"", 1, "1"))
    assert link.deliver_down() is None
    assert not link.broken


@given(
    faults=st.lists(
        st.tuples(st.sampled_from(["drop", "repeat", "swap", "deliver"]), st.integers(0, 4))
    )
)
def test_what_is_delivered_is_a_beginning_of_what_was_sent(faults: list[tuple[str, int]]) -> None:
    link = make()
    sent = 20
    for number in range(sent):
        link.say(msg.Results(number, []))
    heard: list[int] = []

    def hear() -> None:
        message = link.deliver_up()
        if isinstance(message, msg.Results):
            heard.append(message.number)

    for fault, at in faults:
        if fault == "deliver":
            hear()
        else:
            getattr(link.up, fault)(at)
    while link.up:
        hear()
    assert heard == list(range(len(heard)))
    # The next message shows a loss, if there was one: the last one's too.
    link.say(msg.Heartbeat())
    link.deliver_up()
    while link.down:
        link.deliver_down()
    assert link.broken or len(heard) == sent


def test_the_clock_moves_when_it_is_told_to_and_never_back() -> None:
    clock = FakeClock(5.0)
    assert clock() == 5.0
    assert clock.advance(2.5) == clock() == 7.5
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1.0)
