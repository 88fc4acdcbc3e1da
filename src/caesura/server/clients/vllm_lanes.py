"""vLLM's engine client for the lanes of sockets: each is one resumable request, which its requests
go on with in place."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from vllm.engine.protocol import EngineClient, StreamingInput
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM, InputStreamError
from vllm.v1.engine.exceptions import EngineGenerateError

from caesura.cml import CallStop, FrameRules, Marker, ReasoningEdge
from caesura.cml.markers import has_markers
from caesura.engine.model.frames import frames_argument
from caesura.engine.protocol import DETACHED, FRAMES_ARGUMENT, INTERRUPTED, REPORT
from caesura.server.clients.lanes import EngineLane
from caesura.server.clients.turns import current_turn
from caesura.server.clients.vllm_engine import WrappedEngine

# How a text is made of tokens is settled when a request begins.
_OF_TEXTS = ("skip_special_tokens", "spaces_between_special_tokens", "logprobs")
# Of models that were not trained for CML.
_CALLS = (("<tool_call>", "</tool_call>"),)
# About reasoning blocks in what a grammar constrains; such requests do not stay.
_OF_GRAMMARS = frozenset({"reasoning_ended", "reasoning_parser_kwargs"})


_NO_TOKENS = (-1, -2, -3)  # stand for markers that such models do not have


def call_rules(texts: Iterable[tuple[int, str]]) -> FrameRules | None:
    """Where a model writes calls, in which nothing is put; None where no tokens show that.

    Args:
        texts: the model's tokens that split texts wherever they occur.
    """
    tokens = {text: token for token, text in texts}
    edges = [tokens[edge.value] for edge in ReasoningEdge if edge.value in tokens]
    reasoning = (edges[0], edges[1]) if len(edges) == len(ReasoningEdge) else None
    if has_markers(list(tokens)):
        return FrameRules(
            call=tokens[Marker.CALL.value],
            trap=tokens[Marker.TRAP.value],
            head=tokens[Marker.HEAD.value],
            end=tokens[Marker.END.value],
            interrupt=tokens[Marker.INTR.value],
            calls=CallStop.NEVER,
            reasoning=reasoning,
        )
    for opening, closing in _CALLS:
        if opening in tokens and closing in tokens:
            trap, head, interrupt = _NO_TOKENS
            return FrameRules(
                call=tokens[opening],
                trap=trap,
                head=head,
                end=tokens[closing],
                interrupt=interrupt,
                calls=CallStop.NEVER,
                reasoning=reasoning,
            )
    return None


class LanesEngine(WrappedEngine):
    """vLLM's engine client; what a socket's lane asks for is generated in place.

    Args:
        engine_client: vLLM's.
        rules: of the model's calls.
    """

    def __init__(self, engine_client: EngineClient, rules: FrameRules | None) -> None:
        super().__init__(engine_client)
        self._rules = rules

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncIterator[RequestOutput]:
        """As vLLM's."""
        turn = current_turn()
        if turn is None or turn.lane is None or not _can_stay(prompt, sampling_params):
            return self._engine.generate(prompt, sampling_params, request_id, **options)
        rest = {name: value for name, value in options.items() if name not in _OF_GRAMMARS}
        params = sampling_params.clone()
        # Reports are of requests that come back; this one does not go away.
        more = {name: each for name, each in (params.extra_args or {}).items() if name != REPORT}
        if self._rules is not None:
            more[FRAMES_ARGUMENT] = frames_argument(self._rules, (), keeps_end=True)
        params.extra_args = more
        return _in_place(self._engine, turn.lane, prompt, params, request_id, rest)


def _can_stay(prompt: Any, params: SamplingParams) -> bool:
    """Whether a resumable request can generate it."""
    return (
        isinstance(prompt, Mapping)
        and prompt.get("type") == "token"
        and params.output_kind == RequestOutputKind.DELTA
        and params.n == 1
        and not params.stop
        and params.structured_outputs is None
        and params.prompt_logprobs is None
    )


async def _in_place(
    llm: AsyncLLM,
    lane: EngineLane,
    prompt: Mapping[str, Any],
    params: SamplingParams,
    request_id: str,
    options: Mapping[str, Any],
) -> AsyncGenerator[RequestOutput, None]:
    session = lane.session
    settings = _settings(prompt, params, options)
    token_ids = list(prompt["prompt_token_ids"])
    if not isinstance(session, _LaneSession) or not session.goes_on(token_ids, params, settings):
        await lane.close()
        lane.session = session = _LaneSession(llm, settings)
        await session.start(prompt, params, request_id, options)
    is_over = False
    try:
        async for output in session.turn(token_ids):
            is_over = output.outputs[0].finish_reason is not None
            yield output
    finally:
        if not is_over:  # nobody reads it: whatever it would still generate is for nobody
            await lane.close()


def _settings(
    prompt: Mapping[str, Any], params: SamplingParams, options: Mapping[str, Any]
) -> tuple[object, ...]:
    """What has to stay the same as long as a session goes on."""
    texts = [getattr(params, name, None) for name in _OF_TEXTS]
    adapter = options.get("lora_request")
    return (prompt.get("cache_salt"), adapter, options.get("priority"), *texts)


class _LaneSession:
    """A conversation in the engine: a turn for each response.

    Args:
        llm: the engine.
        settings: see `_settings`.
    """

    def __init__(self, llm: AsyncLLM, settings: tuple[object, ...]) -> None:
        self._llm = llm
        self._settings = settings
        self._inputs: asyncio.Queue[StreamingInput] = asyncio.Queue()
        self._outputs: asyncio.Queue[RequestOutput | Exception | None] = asyncio.Queue()
        self._tokens: list[int] = []  # with those of turns that nobody has read, no output of them
        self._appended: deque[Sequence[int]] = deque()  # behind the turn that is generated
        self._is_turning = False
        self._is_open = True
        self._salt: str | None = None
        self._params: SamplingParams | None = None
        self._collector: Any = None

    async def start(
        self,
        prompt: Mapping[str, Any],
        params: SamplingParams,
        request_id: str,
        options: Mapping[str, Any],
    ) -> None:
        """Begin the first turn."""
        self._salt = prompt.get("cache_salt")
        self._tokens = list(prompt["prompt_token_ids"])
        self._put(self._tokens, params)
        self._is_turning = True
        self._collector = await self._llm.add_request(
            request_id, self._chunks(), self._params, **options
        )
        early, self._collector.put = self._collector.get_nowait(), self._taken
        if early is not None:
            self._taken(early)

    def goes_on(
        self, token_ids: Sequence[int], params: SamplingParams, settings: tuple[object, ...]
    ) -> bool:
        """Whether a prompt is what the session has, or begins with it; then its turn begins."""
        if not self._is_open or settings != self._settings:
            return False
        if self._is_turning:
            return list(token_ids) == self._tokens
        have = len(self._tokens)
        if len(token_ids) <= have or list(token_ids[:have]) != self._tokens:
            return False
        self._tokens = list(token_ids)
        self._put(token_ids[have:], params)
        self._is_turning = True
        return True

    async def interrupt(self, token_ids: Sequence[int] | None) -> None:
        """See `LaneSession`."""
        if not self._is_open or not self._is_turning or self._appended:
            return
        if token_ids:
            assert self._params is not None
            self._appended.append(tuple(token_ids))
            self._put(token_ids, self._params)
        else:
            self._outputs.put_nowait(None)

    async def turn(self, prompt: Sequence[int]) -> AsyncIterator[RequestOutput]:
        """The outputs of one turn.

        Args:
            prompt: all tokens before it.

        Raises:
            EngineGenerateError: the engine has let the session go.
        """
        cached: int | None = None
        while True:
            output = await self._outputs.get()
            if output is None:
                yield _cut(prompt)
                await self.close()
                return
            if isinstance(output, InputStreamError):
                raise output.cause from output
            if isinstance(output, Exception):
                raise output
            if not output.outputs:
                raise EngineGenerateError("the engine has ended the session")
            (choice,) = output.outputs
            self._tokens += choice.token_ids
            # vLLM's own have neither outputs nor what was appended in their order.
            output.prompt_token_ids = list(prompt)
            cached = output.num_cached_tokens if cached is None else cached
            output.num_cached_tokens = cached
            if choice.finish_reason is not None:
                self._is_turning = False
                self._go_on()
            yield output
            if choice.finish_reason is not None:
                return

    async def close(self) -> None:
        """See `LaneSession`."""
        was_open, self._is_open = self._is_open, False
        if self._collector is not None:
            self._collector.close()
            if was_open:
                await self._llm.abort(self._collector.request_id, internal=True)

    def _go_on(self) -> None:
        """A turn is over; another has begun if tokens were appended."""
        if self._appended:
            self._tokens += self._appended.popleft()
            self._is_turning = True

    def _taken(self, output: RequestOutput | Exception) -> None:
        """An output: the collector would merge those that nobody has taken yet."""
        completions = output.outputs if isinstance(output, RequestOutput) else ()
        if completions and completions[0].stop_reason == DETACHED:
            self._is_open = False
            if not self._is_turning:
                return
            output = EngineGenerateError("the engine has let the session go")
        self._outputs.put_nowait(output)

    def _put(self, token_ids: Sequence[int], params: SamplingParams) -> None:
        self._params = params = params.clone()
        prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": list(token_ids)}
        if self._salt is not None:
            prompt["cache_salt"] = self._salt
        self._inputs.put_nowait(StreamingInput(prompt=prompt, sampling_params=params))

    async def _chunks(self) -> AsyncGenerator[StreamingInput, None]:
        while True:
            yield await self._inputs.get()


def _cut(prompt: Sequence[int]) -> RequestOutput:
    """The end of an output that is stopped where it is."""
    choice = CompletionOutput(
        index=0,
        text="",
        token_ids=[],
        cumulative_logprob=None,
        logprobs=None,
        finish_reason="stop",
        stop_reason=INTERRUPTED,
    )
    return RequestOutput(
        request_id="",
        prompt=None,
        prompt_token_ids=list(prompt),
        prompt_logprobs=None,
        outputs=[choice],
        finished=True,
    )
