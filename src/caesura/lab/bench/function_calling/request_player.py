"""Plays cases as most agents do: each call ends a request, and the next one has all messages again.

The client is the `openai` package, the server stock vLLM. Its model's tokens are forced as those
of the other arms are: a turn is one call of the known answer, in the model's own format.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessage

from caesura.lab.bench.function_calling.call_plan import SCRIPT_ARGUMENT
from caesura.lab.bench.function_calling.cases import CaseError
from caesura.lab.bench.function_calling.executions import Executions, UnknownCall
from caesura.lab.bench.function_calling.native_format import NativeFormat
from caesura.lab.bench.function_calling.plans import (
    TOOL_TOKENS,
    CallTokens,
    ModeCase,
    TimedCall,
    fitting_tools,
    issue_order,
)
from caesura.lab.bench.function_calling.records import PlayedCase, case_run
from caesura.lab.bench.function_calling.stock_server import SERVED_MODEL, StockServer
from caesura.session.calling import CallSpan, Ending, Timeline

_BEHIND_PROMPT = 0


@dataclass(slots=True)
class _Turn:
    """A request that was answered. Times are seconds of the clock."""

    tokens: int
    sent_at: float
    answered_at: float
    calls: Sequence[TimedCall] = ()


@dataclass(slots=True)
class _Conversation:
    """A case on its way.

    Attributes:
        tools: that the model is told of.
        messages: so far.
        turns: so far.
        wrong: something was not as it has to be.
    """

    tools: list[dict[str, Any]]
    messages: list[Any]
    turns: list[_Turn] = field(default_factory=list)
    wrong: bool = False


class RequestPlayer:
    """Plays cases on a server.

    Args:
        server: stock vLLM.
        form: how its model writes.
        tokens: says how many tools fit into a prompt, as in the other arms.
    """

    def __init__(self, server: StockServer, form: NativeFormat, tokens: CallTokens) -> None:
        self._server = server
        self._format = form
        self._tokens = tokens
        self._client = openai.AsyncOpenAI(
            base_url=server.url, api_key="none", max_retries=0, timeout=None
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def play_alone(self, case: ModeCase) -> PlayedCase:
        """Play a case whose prompt is in the prefix cache, but for its last block.

        Raises:
            CaseError: the server refuses.
        """
        tools = fitting_tools(case.case, self._tokens, TOOL_TOKENS)
        talk = _Conversation(tools, [{"role": "user", "content": case.case.question}])
        executions = Executions(case.calls, time.perf_counter, together=False)
        try:
            await self._ask(talk, self._format.answer()[-1:])
            before = await self._server.decoding()
            talk.turns.clear()
            began_at = time.perf_counter()
            for place in issue_order(case.calls):
                await self._call(talk, case.calls[place], executions)
            text = (await self._turn(talk, self._format.answer())).content or ""
            after = await self._server.decoding(before.requests + len(talk.turns))
        except openai.OpenAIError as error:
            raise CaseError(f"{self._server.url}: {error}") from error
        steps = sum(turn.tokens - 1 for turn in talk.turns)
        timeline = _timeline(began_at, talk.turns, (after.seconds - before.seconds) / steps)
        timeline.text = text
        correct = not talk.wrong and all(part in text for part in case.answer)
        executed = executions.of_call
        run = case_run(
            case,
            timeline,
            executed,
            answered_at=talk.turns[-1].answered_at,
            correct=correct and len(executed) == len(case.calls),
        )
        return PlayedCase(run, timeline, executed)

    async def _call(self, talk: _Conversation, known: TimedCall, executions: Executions) -> None:
        """A turn that makes one call, and its result."""
        message = await self._turn(talk, self._format.call(known.call))
        talk.turns[-1].calls = (known,)
        talk.messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or ():
            assert call.type == "function"
            try:
                result = await executions.execute_named(
                    call.function.name, json.loads(call.function.arguments)
                )
            except UnknownCall as error:
                talk.wrong, result = True, str(error)
            talk.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    async def _turn(self, talk: _Conversation, script: Sequence[int]) -> ChatCompletionMessage:
        sent_at = time.perf_counter()
        message = await self._ask(talk, script)
        talk.turns.append(_Turn(len(script), sent_at, time.perf_counter()))
        return message

    async def _ask(self, talk: _Conversation, script: Sequence[int]) -> ChatCompletionMessage:
        answer = await self._client.chat.completions.create(
            model=SERVED_MODEL,
            messages=talk.messages,
            tools=talk.tools,  # type: ignore[arg-type]
            temperature=0,
            max_tokens=len(script),
            extra_body={"vllm_xargs": {SCRIPT_ARGUMENT: [_BEHIND_PROMPT, *script]}},
        )
        usage = answer.usage
        talk.wrong |= usage is None or usage.completion_tokens != len(script)
        return answer.choices[0].message


def _timeline(began_at: float, turns: Sequence[_Turn], token_seconds: float) -> Timeline:
    """What was written when: the last token of a turn is there when its answer is."""
    timeline = Timeline(began_at, ended_at=turns[-1].answered_at, ending=Ending.COMPLETED)
    first = turns[0]
    timeline.first_token_at = first.answered_at - (first.tokens - 1) * token_seconds
    timeline.generated_tokens = sum(turn.tokens for turn in turns)
    timeline.spans[-1].ended_at = timeline.ended_at
    for turn in turns:
        opened_at = turn.answered_at - (turn.tokens - 1) * token_seconds
        for known in turn.calls:
            call = known.call
            span = CallSpan(
                call.id, call.name, call.arguments, opened_at, turn.answered_at, turn.tokens
            )
            timeline.calls.append(span)
    return timeline
