"""A policy that says only what it does differently."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from caesura.policy import (
    CostModel,
    Disposition,
    Drop,
    Keep,
    Load,
    Memory,
    OriginalArrival,
    Plan,
    Policy,
    PolicyDefaults,
    SessionOrder,
    Snapshot,
    make_policy,
)
from support.engines.fake_pauses import FakeEngine, FakePause

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-policy.md"
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


def test_the_policy_of_the_guide_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.S | re.M)
    (tmp_path / "keep_short.py").write_text(program, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    policy = make_policy("keep_short:KeepShort", {"keep_seconds": 2.0, "patience_factor": 1.0})
    pauses = FakePause("person", 0.0, endpoint="human"), FakePause("tool", 0.0)
    engine = FakeEngine(policy, pauses, costs=COSTS, load=Load(), host=Memory(1000, 1000))
    assert engine.step(now=0.0) == {"person": Disposition.SWAP}
    assert engine.plan(now=0.0).review_seconds == 2.0
    assert engine.step(now=2.0)["tool"] is Disposition.DISCARD
