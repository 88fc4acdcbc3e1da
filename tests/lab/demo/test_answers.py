"""What the demo asks and what is right: new in each world, and strictly judged."""

import pytest

from caesura.bundled.demo_tools import STATUSES, TOOLS
from caesura.bundled.world import ARCHIVED, UnknownCode, World
from caesura.cml import Mode
from caesura.lab.bench.function_calling.latency_theory import CallTimes, bound_seconds
from caesura.lab.demo.agent.questions import AgentQuestion, questions
from caesura.lab.demo.agent.verdict import mistakes
from caesura.lab.train.held_out import is_held_out
from lab.demo.recordings import QUESTION, STOCK, Play, in_async, in_sync, in_sync_parallel


def test_a_world_is_its_seed() -> None:
    def answers(seed: int) -> list[object]:
        world = World(seed)
        arguments = [(tool.name, CODES[tool.takes.value]) for tool in TOOLS]
        return [(world.value(*made), world.seconds(*made)) for made in arguments]

    assert answers(1) == answers(1)
    assert all(one != other for one, other in zip(answers(1), answers(2), strict=True))


CODES = {"item": "K4821", "order": "773412", "contact": "PQ27"}


def test_tools_take_about_what_they_declare() -> None:
    for tool in TOOLS:
        code = CODES[tool.takes.value]
        times = [World(seed).seconds(tool.name, code) for seed in range(200)]
        assert tool.expected_seconds / 1.51 < min(times) < max(times) < tool.expected_seconds * 1.51
        assert len(set(times)) > 100
        assert sum(times) / len(times) == pytest.approx(tool.expected_seconds, rel=0.05)


def test_the_status_of_an_archived_order_takes_four_times_as_long() -> None:
    usual, archived = World(3).seconds("status", "773412"), World(3).seconds("status", "973412")
    assert 0.2 <= usual <= 0.45
    assert 0.8 <= archived <= 1.8
    assert 0.6 <= World(3).seconds("carrier", "973412") <= 1.35


@pytest.mark.parametrize("code", ["", "K482", "k4821", "K4821 ", "773412"])
def test_there_is_nothing_of_a_malformed_code(code: str) -> None:
    with pytest.raises(UnknownCode, match="there is no item"):
        World(0).value("owner", code)


def test_training_never_drew_what_is_asked_and_answered() -> None:
    for question in questions(World(3), 3, 14):
        for call in question.calls:
            assert is_held_out(call.code)
            assert is_held_out(call.value) or call.value in STATUSES


def test_questions_name_all_their_codes_and_no_code_twice() -> None:
    asked = questions(World(3), 3, 7)
    assert len({question.title for question in asked}) == 7
    for question in asked:
        assert "{" not in question.text
        for call in question.calls:
            given = call.code in question.text
            assert given or any(call.code == before.value for before in question.calls)


def test_a_chain_is_called_with_what_came_before_and_tells_its_end_only() -> None:
    (chain,) = (q for q in questions(World(3), 3, 6) if q.title.startswith("a chain:"))
    owner, phone = chain.calls
    assert (owner.tool, owner.told) == ("owner", False)
    assert (phone.tool, phone.code, phone.told) == ("phone", owner.value, True)


def bounds(question: AgentQuestion, world: World) -> dict[Mode, float]:
    """What the modes take at best, with tokens of 5 ms and calls of 20 tokens."""
    issued = sorted(question.calls, key=lambda call: call.code not in question.text)
    times = [
        CallTimes(
            0.1,
            world.seconds(call.tool, call.code),
            tuple(i for i, before in enumerate(issued) if before.value == call.code),
        )
        for call in issued
    ]
    return {mode: bound_seconds(mode, times) for mode in Mode}


def test_beside_a_slow_call_a_chain_goes_on_in_async_and_waits_in_a_bundle() -> None:
    ratios = []
    for seed in range(60):
        world = World(seed)
        by_title = {q.title: bounds(q, world) for q in questions(world, seed, 7)}
        slow = by_title["a chain beside a slow call"]
        ratios.append(slow[Mode.SYNC_PARALLEL] / slow[Mode.ASYNC])
        nothing = by_title["a chain: nothing to overlap"]
        assert nothing[Mode.SYNC] == pytest.approx(nothing[Mode.ASYNC])
        quick = by_title["a chain beside a quick call"]
        assert quick[Mode.SYNC_PARALLEL] / quick[Mode.ASYNC] < 1.1
    assert min(ratios) > 1.1
    assert sum(ratios) / len(ratios) > 1.25


def test_orders_are_archived_only_where_that_is_the_point() -> None:
    for question in questions(World(3), 3, 70):
        orders = [c.code for c in question.calls if c.tool in ("status", "carrier")]
        is_slow = question.title == "a chain beside a slow call"
        assert all(order.startswith(ARCHIVED) is is_slow for order in orders)


@pytest.mark.parametrize("recording", [in_sync(), in_sync_parallel(), in_async()])
def test_right_answers_are_right(recording) -> None:
    assert recording.mistakes == []


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("owner1: PQ27.", ["did not say stock of C0048: 3633"]),
        (
            "owner1: PQ28. stock1: 3633.",
            ["did not say owner of K4821: PQ27", "said owner of K4821: PQ28"],
        ),
        ("owner1: PQ27. stock1: 3633. stock1: 3633.", ["said stock of C0048: 3633"]),
        ("owner1: PQ27. stock1: 3633. price1: 1.", ["said price1 of ?: 1"]),
    ],
)
def test_what_is_missing_wrong_or_too_much_is_said(answer: str, wrong: list[str]) -> None:
    assert in_sync(answer).mistakes == wrong


def test_calls_are_judged_and_an_end_that_never_came() -> None:
    play = Play(Mode.ASYNC)
    play.issued(STOCK, 0.0, 0.1)
    play.issued(STOCK, 0.1, 0.2)
    wrong = mistakes(QUESTION, play.recording.timeline)
    assert "did not end by itself: None" in wrong
    assert {"did not call owner of K4821", "called stock of C0048"} <= {*wrong}
