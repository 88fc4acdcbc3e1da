"""Autellix: queues of attained service."""

import pytest

from caesura.policy import CostModel, Disposition, Load, Service, make_policy
from caesura.policy.peers.autellix import Autellix
from support.engines.fake_pauses import FakeEngine, FakePause


@pytest.mark.parametrize(
    ("tokens", "queue"), [(0, 0), (63, 0), (64, 1), (127, 1), (128, 2), (255, 2), (256, 3)]
)
def test_each_queue_reaches_twice_as_far_as_the_one_before(tokens: int, queue: int) -> None:
    assert Autellix(queues=4).order.queue(tokens) == queue


def test_the_last_queue_has_no_end() -> None:
    assert Autellix(queues=4).order.queue(10**9) == 3
    assert Autellix(queues=1).order.queue(10**9) == 0


def test_less_service_goes_first_and_within_a_queue_who_arrived_first() -> None:
    order = Autellix().order
    old, new = Service(1.0, output_tokens=500), Service(90.0, output_tokens=10)
    assert order.rank(new) < order.rank(old)
    assert order.rank(Service(1.0, output_tokens=60)) < order.rank(new)
    assert order.rank(new) < order.rank(Service(1.0, 100.0, 60)), "pauses are no waiting"


def test_a_lower_queue_makes_room_for_a_higher_one_and_nobody_within_a_queue() -> None:
    order = Autellix().order
    margin = order.displacement_margin_seconds
    assert margin is not None
    same = order.rank(Service(1e6, output_tokens=70)) - order.rank(Service(1.0, output_tokens=120))
    assert same < margin
    lower = order.rank(Service(1.0, output_tokens=70)) - order.rank(Service(1e6, output_tokens=10))
    assert lower > margin


def test_nothing_is_held_between_calls() -> None:
    policy = make_policy("autellix")
    costs = CostModel(1e-3, 0.0)
    assert policy.saves_contexts(costs)
    state = FakeEngine(policy, [FakePause("tool")], costs=costs, load=Load())
    assert state.step(0.0) == {"tool": Disposition.DISCARD}
