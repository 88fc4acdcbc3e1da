"""Lanes of sockets in the engine: when a conversation goes on in place, and when it cannot."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineGenerateError

from caesura.cml import FrameRules
from caesura.engine.protocol import DETACHED, FRAMES_ARGUMENT, INTERRUPTED, REPORT
from caesura.server.clients.lanes import EngineLane
from caesura.server.clients.turns import ClientTurn, serving
from caesura.server.clients.vllm_lanes import LanesEngine, call_rules
from support.waiting import eventually


class Collector:
    """Where an engine puts what it has of a request."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.is_closed = False
        self.put: Any = None

    def get_nowait(self) -> None:
        return None

    def close(self) -> None:
        self.is_closed = True


class Engine:
    """vLLM's client; what it generates is what the test says."""

    def __init__(self) -> None:
        self.requests: list[Collector] = []
        self.inputs: list[list[int]] = []  # of the last request
        self.params: list[SamplingParams] = []
        self.options: list[dict[str, Any]] = []
        self.aborted: list[str] = []
        self.stateless: list[Any] = []

    @property
    def asked(self) -> tuple[int, int]:
        """Requests so far, and inputs of the last."""
        return len(self.requests), len(self.inputs)

    async def add_request(
        self, request_id: str, chunks: AsyncIterator[Any], params: Any, **options: Any
    ) -> Collector:
        collector = Collector(request_id)
        self.requests.append(collector)
        self.options.append(options)
        self.inputs = inputs = []

        async def read() -> None:
            async for chunk in chunks:
                inputs.append(chunk.prompt["prompt_token_ids"])
                self.params.append(chunk.sampling_params)

        self._reading = asyncio.create_task(read())
        return collector

    async def abort(self, request_id: str, *, internal: bool) -> None:
        assert internal
        self.aborted.append(request_id)

    def generate(self, prompt: Any, params: Any, request_id: str, **options: Any) -> str:
        self.stateless.append(prompt)
        return "stateless"

    def write(self, *tokens: int, stop: str | int | None = None, reason: str = "stop") -> None:
        """An output of the last request; it ends the turn if it has a reason to stop."""
        choice = CompletionOutput(
            index=0,
            text="".join(map(chr, tokens)),
            token_ids=list(tokens),
            cumulative_logprob=None,
            logprobs=None,
            finish_reason=None if stop is None else reason,
            stop_reason=stop,
        )
        output = RequestOutput("id", None, [0], None, [choice], finished=False)
        self.requests[-1].put(output)


def params(**more: Any) -> SamplingParams:
    return SamplingParams(
        max_tokens=9,
        output_kind=RequestOutputKind.DELTA,
        extra_args={REPORT: True, "own": 1},
        **more,
    )


class Lane:
    """One lane's requests."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.lane = EngineLane()
        self._client = LanesEngine(self.engine, None)  # type: ignore[arg-type]

    def ask(self, *tokens: int, salt: str | None = None, **more: Any) -> Any:
        """What a request with that prompt gets."""
        prompt = {"type": "token", "prompt_token_ids": list(tokens)}
        if salt is not None:
            prompt["cache_salt"] = salt
        options = {name: more.pop(name) for name in ("lora_request",) if name in more}
        with serving(ClientTurn("anna", lane=self.lane)):
            return self._client.generate(prompt, params(**more), "request", **options)

    async def turn(self, *tokens: int, writes: Sequence[int], **more: Any) -> list[Any]:
        """A whole turn, whose last token ends it."""
        before = self.engine.asked
        answer = asyncio.create_task(_all(self.ask(*tokens, **more)))
        await eventually(lambda: self.engine.inputs and self.engine.asked != before)
        for token in writes[:-1]:
            self.engine.write(token)
        self.engine.write(writes[-1], stop=writes[-1])
        return await answer


async def _all(outputs: AsyncIterator[RequestOutput]) -> list[RequestOutput]:
    return [output async for output in outputs]


async def test_what_follows_the_same_tokens_goes_on_in_place() -> None:
    lane = Lane()
    first = await lane.turn(1, 2, writes=[3, 4])
    assert [output.outputs[0].token_ids for output in first] == [[3], [4]]
    assert all(output.prompt_token_ids == [1, 2] for output in first)
    second = await lane.turn(1, 2, 3, 4, 5, 6, writes=[7])
    assert [output.prompt_token_ids for output in second] == [[1, 2, 3, 4, 5, 6]]
    await lane.turn(1, 2, 3, 4, 5, 6, 7, 8, writes=[9])
    assert len(lane.engine.requests) == 1
    assert lane.engine.inputs == [[1, 2], [5, 6], [8]]
    assert not lane.engine.aborted
    assert [each.extra_args for each in lane.engine.params] == [{"own": 1}] * 3
    await lane.lane.close()
    assert lane.engine.aborted == ["request"]
    assert lane.engine.requests[0].is_closed


@pytest.mark.parametrize(
    ("prompt", "more"),
    [
        ((1, 2, 3), {}),
        ((1, 2, 3, 4), {}),
        ((1, 2, 9, 4, 5), {}),
        ((1, 2, 3, 4, 5), {"salt": "of another"}),
        ((1, 2, 3, 4, 5), {"lora_request": "an adapter"}),
        ((1, 2, 3, 4, 5), {"skip_special_tokens": False}),
        ((1, 2, 3, 4, 5), {"logprobs": 2}),
    ],
)
async def test_anything_else_is_a_new_request(prompt: tuple[int, ...], more: Any) -> None:
    lane = Lane()
    await lane.turn(1, 2, writes=[3, 4])
    await lane.turn(*prompt, writes=[7], **more)
    assert lane.engine.aborted == ["request"]
    assert len(lane.engine.requests) == 2
    assert lane.engine.inputs == [list(prompt)]


async def test_an_interrupted_turn_goes_on_as_the_next_request() -> None:
    lane = Lane()
    first = asyncio.create_task(_all(lane.ask(1, 2)))
    await eventually(lambda: lane.engine.inputs)
    assert lane.lane.session is not None
    lane.engine.write(3)
    await lane.lane.session.interrupt([8, 9])
    await lane.lane.session.interrupt([7])  # one is enough
    lane.engine.write(4, stop=INTERRUPTED)
    assert [output.outputs[0].token_ids for output in await first] == [[3], [4]]
    await eventually(lambda: len(lane.engine.inputs) == 2)
    lane.engine.write(5, stop=5)
    (second,) = await _all(lane.ask(1, 2, 3, 4, 8, 9))
    assert second.prompt_token_ids == [1, 2, 3, 4, 8, 9]
    assert lane.engine.inputs == [[1, 2], [8, 9]]
    assert lane.engine.params[1].max_tokens == 9
    assert len(lane.engine.requests) == 1


async def test_other_tokens_than_those_that_were_put_in_are_a_new_request() -> None:
    lane = Lane()
    first = asyncio.create_task(_all(lane.ask(1, 2)))
    await eventually(lambda: lane.engine.inputs)
    assert lane.lane.session is not None
    await lane.lane.session.interrupt([8, 9])
    lane.engine.write(3, stop=3)  # it ended by itself at that moment
    await first
    await lane.turn(1, 2, 3, 9, writes=[7])
    assert lane.engine.aborted == ["request"]
    assert len(lane.engine.requests) == 2


async def test_without_tokens_an_interrupt_ends_the_turn_where_it_is() -> None:
    lane = Lane()
    first = asyncio.create_task(_all(lane.ask(1, 2)))
    await eventually(lambda: lane.engine.inputs)
    assert lane.lane.session is not None
    lane.engine.write(3)
    await lane.lane.session.interrupt(None)
    *_, last = await first
    assert (last.outputs[0].finish_reason, last.outputs[0].stop_reason) == ("stop", INTERRUPTED)
    assert lane.engine.aborted == ["request"]
    await lane.turn(1, 2, 3, 4, writes=[7])
    assert len(lane.engine.requests) == 2


async def test_what_nobody_reads_is_not_generated() -> None:
    lane = Lane()
    outputs = lane.ask(1, 2)
    first = asyncio.ensure_future(anext(outputs))
    await eventually(lambda: lane.engine.inputs)
    lane.engine.write(3)
    await first
    await outputs.aclose()
    assert lane.engine.aborted == ["request"]
    assert lane.lane.session is None


async def test_a_session_that_the_engine_lets_go_is_a_new_request() -> None:
    lane = Lane()
    await lane.turn(1, 2, writes=[3])
    lane.engine.write(stop=DETACHED, reason="abort")
    await lane.turn(1, 2, 3, 4, writes=[5])
    assert not lane.engine.aborted, "it was over"
    assert lane.engine.inputs == [[1, 2, 3, 4]]
    waiting = asyncio.create_task(_all(lane.ask(1, 2, 3, 4, 5, 6)))
    await eventually(lambda: len(lane.engine.inputs) == 2)
    lane.engine.write(stop=DETACHED, reason="abort")
    with pytest.raises(EngineGenerateError):
        await waiting


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"stop": ["x"]},
        {"structured_outputs": StructuredOutputsParams(regex="x")},
        {"prompt_logprobs": 1},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_what_cannot_stay_is_generated_as_ever(more: Any) -> None:
    lane = Lane()
    assert lane.ask(1, 2, **more) == "stateless"
    assert lane.lane.session is None


async def test_requests_of_no_lane_are_vllms() -> None:
    engine = Engine()
    client = LanesEngine(engine, None)  # type: ignore[arg-type]
    with serving(ClientTurn("anna")):
        prompt = {"type": "token", "prompt_token_ids": [1]}
        assert client.generate(prompt, params(), "id") == "stateless"
    assert client.generate("text", params(), "id") == "stateless"


def test_calls_are_where_the_models_tokens_say() -> None:
    markers = ["[CALL]", "[HEAD]", "[END]", "[TRAP]", "[INTR]", "<think>", "</think>"]
    rules = call_rules(enumerate(markers))
    assert rules is not None
    assert (rules.call, rules.head, rules.end, rules.trap, rules.interrupt) == (0, 1, 2, 3, 4)
    assert rules.reasoning == (5, 6)
    rules = call_rules([(7, "<tool_call>"), (8, "</tool_call>"), (9, "<think>")])
    assert rules is not None
    assert (rules.call, rules.end, rules.reasoning) == (7, 8, None)
    assert call_rules([(7, "<tool_call>")]) is None


async def test_frames_go_with_each_turn() -> None:
    lane = Lane()
    rules = call_rules([(7, "<tool_call>"), (8, "</tool_call>")])
    assert isinstance(rules, FrameRules)
    lane._client = LanesEngine(lane.engine, rules)  # type: ignore[arg-type]
    await lane.turn(1, 2, writes=[3])
    (asked,) = lane.engine.params
    assert asked.extra_args is not None
    assert asked.extra_args[FRAMES_ARGUMENT]["call"] == 7
    assert asked.extra_args[FRAMES_ARGUMENT]["keeps_end"] is True
