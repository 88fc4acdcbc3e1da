"""Plays one case in CML on an engine: the session writes the known answer, the calls sleep."""

from collections.abc import Sequence

from caesura.cml import Call, KnownTools
from caesura.lab.bench.function_calling.call_plan import ARGUMENT
from caesura.lab.bench.function_calling.executions import Executions, signature
from caesura.lab.bench.function_calling.plans import (
    TOOL_TOKENS,
    CallTokens,
    ModeCase,
    TimedCall,
    fitting_tools,
)
from caesura.lab.bench.function_calling.records import CaseJudge, PlayedCase, cml_run
from caesura.lab.bench.function_calling.stage import Scene, Stage
from caesura.lab.bench.function_calling.styles import Style
from caesura.session import Sampling

_FREE_TOKENS = 400
"""What a model may write that decides by itself."""


class KnownDurations:
    """`Expectations` that are right: how long each call will take is known."""

    def __init__(self, calls: Sequence[TimedCall]) -> None:
        self._of_id = {known.call.id: known.seconds for known in calls}
        self._of_call = {signature(known.call): known.seconds for known in calls}

    def expected_seconds(self, call: Call) -> float | None:
        """See `Expectations.expected_seconds`."""
        return self._of_id.get(call.id, self._of_call.get(signature(call)))

    def record(self, call: Call, seconds: float) -> None:
        """Nothing is to be learned."""


class CasePlayer:
    """Plays cases.

    Args:
        stage: where they are played.
        tokens: of its model.
    """

    def __init__(self, stage: Stage, tokens: CallTokens) -> None:
        self._stage = stage
        self._tokens = tokens

    def prompt(self, case: ModeCase) -> list[int]:
        """The tokens of the question in the mode, with as many tools as fit."""
        expected: dict[str, float] = {}
        for call in case.calls:
            known = expected.get(call.call.name, 0.0)
            expected[call.call.name] = max(known, round(call.seconds, 2))
        tools = fitting_tools(case.case, self._tokens, TOOL_TOKENS)
        return self._stage.prompt(case.case.question, case.mode, tools, expected)

    async def play_alone(self, case: ModeCase) -> PlayedCase:
        """Play a case whose prompt is in the prefix cache, but for its last block."""
        prompt = self.prompt(case)
        await self._stage.read_ahead(prompt)
        return await self.play(case, prompt)

    async def play(self, case: ModeCase, prompt: Sequence[int]) -> PlayedCase:
        """Play a case to its end.

        Raises:
            SessionError: the engine failed.
        """
        together = case.style is Style.SYNC_PARALLEL
        executions = Executions(case.calls, self._stage.clock, together=together)
        scene = Scene(
            prompt,
            case.mode,
            self._sampling(case, prompt),
            KnownTools({call.call.name for call in case.calls}),
            executions.execute,
            KnownDurations(case.calls),
        )
        judge = CaseJudge(executions)
        timeline = await self._stage.play(scene, judge)
        run = cml_run(case, timeline, judge, self._tokens)
        return PlayedCase(run, timeline, executions.of_call)

    def _sampling(self, case: ModeCase, prompt: Sequence[int]) -> Sampling:
        if not case.case.is_forced:
            return Sampling(max_tokens=_FREE_TOKENS)
        plan = self._tokens.plan(case.calls, case.mode, len(prompt))
        call_tokens = sum(len(self._tokens.call(call.call)) for call in case.calls)
        traps = 2 * (len(case.calls) + 1)
        most = call_tokens + traps + len(plan.answer) + 8
        return Sampling(max_tokens=most, extra={ARGUMENT: plan.to_argument()})
