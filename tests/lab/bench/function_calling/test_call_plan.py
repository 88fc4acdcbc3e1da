"""Plans of calls: what is written after any context."""

from collections.abc import Iterator
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.bench.function_calling.call_plan import (
    CallPlan,
    MarkerTokens,
    PlannedWriter,
    TokenizedCall,
)

CALL, INTR, TRAP, HEAD, END, EOS = range(100, 106)
PROMPT = [1, CALL, 2]  # what it says is not read
ANSWER = (50, 51, 52)


@st.composite
def plans(draw: st.DrawFn) -> CallPlan:
    calls: list[TokenizedCall] = []
    for index in range(draw(st.integers(1, 6))):
        after = draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else set()
        body = tuple(draw(st.lists(st.integers(20, 40), min_size=1, max_size=4)))
        calls.append(TokenizedCall((10 + index,), body, tuple(sorted(after))))
    order = draw(st.permutations(range(len(calls))))
    place = {index: position for position, index in enumerate(order)}
    preferred = tuple(
        TokenizedCall(call.id, call.body, tuple(place[needed] for needed in call.after))
        for call in (calls[index] for index in order)
    )
    markers = MarkerTokens(CALL, INTR, TRAP, HEAD, END)
    return CallPlan(len(PROMPT), markers, preferred, ANSWER, EOS, draw(st.booleans()))


def interrupt(call: TokenizedCall) -> list[int]:
    return [INTR, *call.id, HEAD, 77, CALL + 50, END]


def played(plan: CallPlan, random: Random) -> Iterator[list[int]]:
    """Contexts of a session whose results come at random, outside frames; the last has ended."""
    context, pending, written = list(PROMPT), list[TokenizedCall](), list[int]()
    while True:
        writer = PlannedWriter(plan)
        writer.read(context)
        token = writer.next_token()
        in_frame = bool(written) and written[-1] != END and token not in ANSWER
        must = token == TRAP or (token == EOS and pending) or (not plan.traps and token in ANSWER)
        if pending and not in_frame and (must or random.random() < 0.3):
            context += interrupt(pending.pop(random.randrange(len(pending))))
            written = []
            continue
        context.append(token)
        yield context
        if token == EOS:
            return
        written = [token] if token in (CALL, TRAP) else [*written, token]
        if token == END and written[0] == CALL:
            pending += [call for call in plan.calls if call.id == tuple(written[1:2])]
            written = []


@given(plan=plans(), seed=st.integers(0, 1000))
def test_every_call_is_written_once_behind_the_results_that_it_needs(
    plan: CallPlan, seed: int
) -> None:
    *_, context = played(plan, Random(seed))
    text = ",".join(map(str, context[len(PROMPT) :]))
    for call in plan.calls:
        frame = ",".join(map(str, [CALL, *call.id, HEAD, *call.body, END]))
        assert text.count(frame) == 1
        for needed in call.after:
            result = ",".join(map(str, interrupt(plan.calls[needed])))
            assert 0 <= text.find(result) < text.find(frame)
    assert text.count(f"{CALL},") == len(plan.calls)
    assert context[-1] == EOS
    assert [token for token in context if token in ANSWER] == list(ANSWER)


@given(plan=plans(), seed=st.integers(0, 1000), cut=st.integers(1, 9))
def test_reading_in_pieces_is_reading_at_once(plan: CallPlan, seed: int, cut: int) -> None:
    *_, context = played(plan, Random(seed))
    at_once, in_pieces = PlannedWriter(plan), PlannedWriter(plan)
    at_once.read(context[:-1])
    for start in range(0, len(context) - 1, cut):
        in_pieces.read(context[start : min(start + cut, len(context) - 1)])
    assert at_once.next_token() == in_pieces.next_token() == EOS


@given(plans())
def test_a_plan_travels_with_a_request(plan: CallPlan) -> None:
    assert CallPlan.of_argument(plan.to_argument()) == plan
