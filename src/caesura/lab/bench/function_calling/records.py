"""What is measured of one case in one mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caesura.lab.bench.function_calling.executions import Execution, Executions
from caesura.lab.bench.function_calling.latency_theory import CallTimes, bound_seconds
from caesura.lab.bench.function_calling.plans import CallTokens, ModeCase, TimedCall
from caesura.lab.bench.function_calling.styles import Style
from caesura.session.calling import (
    CallIssued,
    CallSpan,
    Ending,
    Injected,
    Paused,
    TextWritten,
    Timeline,
)
from caesura.session.calling.happenings import CallingEvent


@dataclass(frozen=True, slots=True)
class CaseRun:
    """One case in one mode. Times are seconds.

    Attributes:
        suite, mode, case: what was run.
        repetition: number of the repetition, from 0.
        order: in which calls were preferred.
        latency_s: from the submission of the prompt to the last token of the answer.
        calls_latency_s: from the submission to the end of the last execution.
        generation_s: sum over the calls of the time to write them (G).
        execution_s: sum over the calls of the time to execute them (E).
        bound_s: the theoretical latency of the mode for these G and E.
        first_token_s: from the submission to the first token.
        calls: how many were made.
        traps: how many were written.
        call_tokens: of all calls with their markers, or with what is around them in the model's
            own format.
        cml_tokens: markers and ids around calls and results, and traps; 0 outside CML.
        correct: all calls were made with the right arguments, each behind the results that it
            needs, every result took its place once, and the answer was written.
        policy, seed: where policies are compared.
    """

    suite: str
    mode: str
    case: str
    repetition: int
    order: str
    latency_s: float
    calls_latency_s: float
    generation_s: float
    execution_s: float
    bound_s: float
    first_token_s: float
    calls: int
    traps: int
    call_tokens: int
    cml_tokens: int
    correct: bool
    policy: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class PlayedCase:
    """A run, and what it is a record of: executions by the ids of their calls."""

    run: CaseRun
    timeline: Timeline
    executed: Mapping[str, Execution]


class CaseJudge:
    """Watches one case, and judges it. See `stage.Judge`.

    Args:
        executions: of its calls. Those of a bundle are begun together, at its end.
    """

    def __init__(self, executions: Executions) -> None:
        self._executions = executions
        self._answered_at: float | None = None
        self._began: dict[str, int] = {}  # position of a call's first token
        self._injected: list[tuple[str, str, int]] = []  # id, value, position behind it

    @property
    def executed(self) -> Mapping[str, Execution]:
        """The calls of the answer that were made, by their ids."""
        return self._executions.of_call

    def note(self, event: CallingEvent, timeline: Timeline) -> None:
        """See `stage.Judge`."""
        match event:
            case TextWritten():
                self._answered_at = event.at
            case CallIssued(call=call):
                self._began[call.id] = event.position - event.tokens
                self._executions.hold()
            case Paused():
                self._executions.release()
            case Injected():
                end = event.position + event.tokens
                self._injected += [
                    (arrival.interrupt.id, arrival.interrupt.value, end)
                    for arrival in event.arrivals
                ]
            case _:
                pass

    def answered_at(self, timeline: Timeline) -> float:
        """When the last token of the answer was there."""
        known = (self._answered_at, timeline.ended_at, timeline.began_at)
        return next(at for at in known if at is not None)

    def is_correct(self, case: ModeCase, timeline: Timeline) -> bool:
        """See `CaseRun.correct`."""
        executed = self.executed
        results = sorted((call_id, done.known.result) for call_id, done in executed.items())
        return (
            timeline.ending is Ending.COMPLETED
            and not timeline.mistakes
            and len(timeline.calls) == len(executed) == len(case.calls)
            and sorted((call_id, value) for call_id, value, _ in self._injected) == results
            and self._dependencies_are_kept(case.calls)
            and all(text in timeline.text for text in case.answer)
        )

    def _dependencies_are_kept(self, known: Sequence[TimedCall]) -> bool:
        ids = {done.known.call.id: call_id for call_id, done in self.executed.items()}
        behind = {call_id: position for call_id, _, position in self._injected}
        return all(
            behind[ids[known[needed].call.id]] <= self._began[ids[call.call.id]]
            for call in known
            for needed in call.after
        )


def measured_calls(
    spans: Sequence[CallSpan], known: Sequence[TimedCall], executed: Mapping[str, Execution]
) -> list[CallTimes]:
    """The calls in the order of issue, with what they took.

    A call of `n` tokens is observed from the arrival of the first to that of the last, which is
    `n - 1` steps; the first one's step is added. What comes before the first token of a turn (the
    prompt, injected results, the return from a pause) is no part of it.
    """
    place = {
        executed[span.id].known.call.id: position
        for position, span in enumerate(spans)
        if span.id is not None
    }
    calls = []
    for span in spans:
        done = executed[span.id or ""]
        generated = span.generation_seconds * span.tokens / (span.tokens - 1)
        taken = 0.0 if done.ended_at is None else done.ended_at - done.began_at
        needed = tuple(place[known[index].call.id] for index in done.known.after)
        calls.append(CallTimes(generated, taken, needed))
    return calls


def cml_run(case: ModeCase, timeline: Timeline, judge: CaseJudge, tokens: CallTokens) -> CaseRun:
    """The record of a case in CML that has ended."""
    run = case_run(
        case,
        timeline,
        judge.executed,
        answered_at=judge.answered_at(timeline),
        correct=judge.is_correct(case, timeline),
    )
    cml_tokens = timeline.traps * len(tokens.trap()) + sum(
        tokens.around(replace(done.known.call, id=call_id), done.known.result)
        for call_id, done in judge.executed.items()
    )
    return replace(run, cml_tokens=cml_tokens)


def case_run(
    case: ModeCase,
    timeline: Timeline,
    executed: Mapping[str, Execution],
    *,
    answered_at: float,
    correct: bool,
) -> CaseRun:
    """The record of a case that has ended. One that went wrong has no G, E and bound.

    Args:
        case: the case.
        timeline: with the calls as they were written.
        executed: the calls that were made, by their ids in the timeline.
        answered_at: when the last token of the answer was there.
        correct: see `CaseRun`.
    """
    calls = measured_calls(timeline.calls, case.calls, executed) if correct else []
    began_at, first_at = timeline.began_at, timeline.first_token_at
    ends = [done.ended_at for done in executed.values() if done.ended_at is not None]
    return CaseRun(
        suite=case.suite,
        mode=case.style.value,
        case=case.case.id,
        repetition=case.repetition,
        order=case.order.value,
        latency_s=answered_at - began_at,
        calls_latency_s=max(ends, default=began_at) - began_at,
        generation_s=sum(call.generation_seconds for call in calls),
        execution_s=sum(call.execution_seconds for call in calls),
        bound_s=bound_seconds(case.mode, calls, eager=case.style is Style.SYNC_PARALLEL_EAGER),
        first_token_s=0.0 if first_at is None else first_at - began_at,
        calls=len(timeline.calls),
        traps=timeline.traps,
        call_tokens=sum(span.tokens for span in timeline.calls),
        cml_tokens=0,
        correct=correct,
    )
