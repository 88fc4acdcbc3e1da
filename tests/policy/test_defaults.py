"""A policy that says only what it does differently."""

from dataclasses import dataclass
from typing import ClassVar

from caesura.policy import (
    CostModel,
    Disposition,
    Drop,
    Keep,
    Load,
    OriginalArrival,
    Plan,
    Policy,
    PolicyDefaults,
    SessionOrder,
    Snapshot,
)
from fake_pauses import FakeEngine, FakePause

COSTS = CostModel(seconds_per_token=1e-3, seconds_per_iteration=0.0)


@dataclass
class KeepHumans(PolicyDefaults):
    """Contexts of pauses that wait for people stay; the others are dropped."""

    name: ClassVar[str] = "keep-humans"
    order: ClassVar[SessionOrder | None] = OriginalArrival()

    def plan(self, snapshot: Snapshot) -> Plan:
        return Plan(
            [
                Keep(pause.id) if pause.endpoint == "human" else Drop(pause.id)
                for pause in snapshot.pauses.undecided()
            ]
        )


def test_a_policy_of_ones_own_is_its_plan_and_its_order() -> None:
    policy: Policy = KeepHumans()
    pauses = FakePause("person", endpoint="human"), FakePause("program")
    engine = FakeEngine(policy, pauses, costs=COSTS, load=Load())
    assert engine.step(now=0.0) == {"program": Disposition.DISCARD}
    assert pauses[0].held_tokens == 100


def test_by_default_nothing_is_limited_saved_or_given_up() -> None:
    policy = KeepHumans()
    snapshot = FakeEngine(policy, costs=COSTS, load=Load()).snapshot(0.0)
    policy.ended("human", 1.0, returned=False)
    assert policy.iteration_tokens() is None
    assert not policy.saves_contexts(COSTS)
    assert list(policy.copies_given_up(snapshot, 100, None)) == []
