"""AsyncLM's rule: a context is kept if giving it up costs more time than the wait."""

import pytest

from caesura.lab.sim.trap_rule import TrapRule
from caesura.policy import CostModel, Disposition, Load, Memory
from caesura.policy.progress import Progress
from support.engines.fake_pauses import FakeEngine, FakePause, demand

# Of 1,000 tokens: 1.1 s to compute again, 0.2 s to copy out and in.
COSTS = CostModel(seconds_per_token=1e-3, seconds_per_iteration=0.1, seconds_per_copied_token=1e-4)
KEPT: dict[str, Disposition] = {}


def decided(policy: TrapRule, *, host: int, **fields: object) -> dict[str, Disposition]:
    pause = FakePause("a", held_tokens=1000, **fields)  # type: ignore[arg-type]
    memory = Memory(host, host)
    return FakeEngine(policy, [pause], costs=COSTS, load=Load(), host=memory).step(0.0)


@pytest.mark.parametrize(
    ("seconds", "host", "expected"),
    [
        (0.19, 1000, KEPT),
        (0.21, 1000, {"a": Disposition.SWAP}),
        (0.21, 999, KEPT),  # nothing can be copied, and computing takes longer than the wait
        (1.09, 0, KEPT),
        (1.11, 0, {"a": Disposition.DISCARD}),
    ],
)
def test_the_wait_is_what_the_tool_says(
    seconds: float, host: int, expected: dict[str, Disposition]
) -> None:
    said = Progress(total_seconds=seconds, confidence=1.0)
    assert decided(TrapRule(), host=host, progress=said) == expected


def test_else_it_is_what_was_learned() -> None:
    policy = TrapRule()
    for _ in range(200):
        policy.ended("fast", 0.05, returned=True)
        policy.ended("slow", 30.0, returned=True)
        policy.ended("fast", 3000.0, returned=False)  # given up: says nothing of waits
    assert decided(policy, host=0, endpoint="fast") == KEPT
    assert decided(policy, host=0, endpoint="slow") == {"a": Disposition.DISCARD}
    assert policy.expected_seconds("fast") == pytest.approx(0.05, rel=0.3)


def test_running_requests_get_what_is_held() -> None:
    pause = FakePause("a", held_tokens=1000, disposition=Disposition.PRESERVE)
    engine = FakeEngine(TrapRule(), [pause], costs=COSTS, load=Load())
    assert [action.pause_id for action in engine.releases(demand(100, running=True))] == ["a"]
