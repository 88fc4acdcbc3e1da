"""`TokenEngine` on vLLM: sessions in place."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, cast

from vllm import SamplingParams
from vllm.engine.protocol import StreamingInput
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import RequestOutputCollector

from caesura.endpoints import endpoint_name
from caesura.engine.model.frames import frames_argument
from caesura.engine.protocol import (
    BUNDLE_ENDED,
    DETACHED,
    ENDPOINT_ARGUMENT,
    FRAME_ENDED,
    FRAMES_ARGUMENT,
    INTERRUPTED,
)
from caesura.engine.serving.adapters import Adapters
from caesura.engine.serving.notifications import name_next_pause, report_progress
from caesura.errors import ConfigurationError
from caesura.session.errors import (
    DuplicateSession,
    EngineDead,
    EngineFailed,
    SessionClosed,
    SessionDetached,
)
from caesura.session.homes import Homes
from caesura.session.protocol import Delta, EngineStream, Sampling, StopReason, require_room


def to_vllm(
    sampling: Sampling, endpoint: str | None, *, speculates: bool = False
) -> SamplingParams:
    """vLLM's sampling parameters for a turn of tokens, and for engines that speculate."""
    extra: dict[str, Any] = dict(sampling.extra or {})
    if endpoint:
        extra[ENDPOINT_ARGUMENT] = endpoint_name(endpoint)
    frames = sampling.frames
    if frames is not None:
        extra[FRAMES_ARGUMENT] = frames_argument(frames, sampling.stop_token_ids)
    params = SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        seed=sampling.seed,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        stop_token_ids=list(sampling.stop_token_ids) or None,
        ignore_eos=sampling.ignore_eos,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=(
            StructuredOutputsParams(grammar=sampling.grammar) if sampling.grammar else None
        ),
        extra_args=extra or None,
    )
    if frames is not None:
        _mask(frames.interrupt, params, speculates=speculates)
    return params


def _mask(token_id: int, params: SamplingParams, *, speculates: bool) -> None:
    """Nobody but the runtime writes interrupts."""
    if speculates:
        # vLLM refuses biases there; words that may not be written it takes as text only.
        params._bad_words_token_ids = [[token_id]]
    else:
        params.logit_bias = {token_id: -math.inf}


STOPS = {
    INTERRUPTED: StopReason.INTERRUPTED,
    FRAME_ENDED: StopReason.FRAME,
    BUNDLE_ENDED: StopReason.FRAME,
}
"""Why a turn has ended, by the scheduler's own reasons."""


def _stop(completion: CompletionOutput) -> StopReason | None:
    if completion.finish_reason is None:
        return None
    if isinstance(completion.stop_reason, str) and completion.stop_reason in STOPS:
        return STOPS[completion.stop_reason]
    reasons = {"stop": StopReason.STOP, "length": StopReason.LENGTH}
    stop = reasons.get(completion.finish_reason)
    if stop is None:
        raise EngineFailed(
            f"the engine ended the session: finish reason {completion.finish_reason!r}"
        )
    return stop


def _delta(output: RequestOutput, first: bool) -> Delta:
    completion = output.outputs[0]
    tokens = tuple(completion.token_ids)
    stopped_by = completion.stop_reason if isinstance(completion.stop_reason, int) else None
    if completion.stop_reason == FRAME_ENDED:
        stopped_by = tokens[-1]
    return Delta(
        token_ids=tokens,
        stop=_stop(completion),
        stop_token_id=stopped_by,
        cached_tokens=output.num_cached_tokens if first else None,
    )


class Outputs:
    """All outputs of a request, one by one.

    vLLM's collector merges outputs that the consumer has not taken yet; the ends of turns
    would be lost in that.
    """

    def __init__(self, collector: RequestOutputCollector) -> None:
        self.detached = False
        self._collector = collector
        self._queue: asyncio.Queue[RequestOutput | Exception | None] = asyncio.Queue()
        self._turn_begins = True
        collector.put = self._put
        # From 0.33 on vLLM's own has several, if turns have ended.
        while (early := collector.get_nowait()) is not None:
            self._put(cast(RequestOutput, early))

    def _put(self, output: RequestOutput | Exception) -> None:
        if _is_detached(output):
            self.detached = True
            output = SessionDetached("the engine let the paused session go")
        self._queue.put_nowait(output)

    @property
    def turn_is_over(self) -> bool:
        """Whether the last delta that was taken ended a turn."""
        return self._turn_begins

    @property
    def request_id(self) -> str:
        """The engine's own id of it."""
        return self._collector.request_id

    async def next_delta(self) -> Delta | None:
        """The next delta; None when the request is over."""
        output = await self._queue.get()
        if output is None:
            return None
        if isinstance(output, SessionDetached):
            raise output
        if isinstance(output, EngineDeadError):
            raise EngineDead(str(output)) from output
        if isinstance(output, Exception):
            raise EngineFailed(str(output)) from output
        if not isinstance(output, RequestOutput) or not output.outputs:
            return None
        delta = _delta(output, first=self._turn_begins)
        self._turn_begins = delta.stop is not None
        return delta

    def end(self) -> None:
        """Stop feeding the request, and let a waiting consumer see that it is over."""
        self._collector.close()
        self._queue.put_nowait(None)


def _is_detached(output: RequestOutput | Exception) -> bool:
    completions = output.outputs if isinstance(output, RequestOutput) else []
    return bool(completions) and completions[0].stop_reason == DETACHED


class InPlaceEngine:
    """Sessions as resumable vLLM requests: pauses and interrupts happen in place.

    Needs an `AsyncLLM` with Caesura's scheduler.

    Args:
        llm: the engine.
        adapters: of the engine; None if it has none.
        homes: of conversations, where there are several engines.
    """

    def __init__(
        self, llm: AsyncLLM, adapters: Adapters | None = None, homes: Homes | None = None
    ) -> None:
        self._llm = llm
        self._adapters = adapters or Adapters({})
        self._homes = homes or Homes()
        self._open: set[str] = set()

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> EngineStream:
        """Start a session; see `TokenEngine.open`.

        Raises:
            DuplicateSession: a session of that id is open.
            ContextFull: the prompt leaves no room to generate.
            EngineFailed: its adapter is not loaded.
        """
        if session_id in self._open:
            raise DuplicateSession(f"session {session_id} is open already")
        require_room(len(token_ids), self._llm.model_config.max_model_len)
        stream = _InPlaceStream(self._llm, session_id, self._open, self._adapters, self._homes)
        await stream.start(token_ids, sampling, endpoint)
        return stream


class _InPlaceStream:
    def __init__(
        self,
        llm: AsyncLLM,
        session_id: str,
        open_sessions: set[str],
        adapters: Adapters,
        homes: Homes,
    ) -> None:
        self._llm = llm
        self._session_id = session_id
        self._open = open_sessions
        self._adapters = adapters
        self._homes = homes
        self._adapter: LoRARequest | None = None
        self._inputs: asyncio.Queue[StreamingInput] = asyncio.Queue()
        self._outputs: Outputs | None = None
        self._tokens = 0
        self._closed = False

    async def start(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None
    ) -> None:
        params, salt = self._params(sampling, endpoint), sampling.salt
        if sampling.adapter is not None:
            self._adapter = self._adapters.find(sampling.adapter)
            if self._adapter is None:
                raise EngineFailed(f"no adapter {sampling.adapter} is loaded: load it again")
            salt = self._adapters.salt(self._adapter, salt)
        self._put(token_ids, params, salt)
        self._open.add(self._session_id)
        home = self._homes.of(
            token_ids, domain=(salt, sampling.adapter), session_id=self._session_id
        )
        if home is not None:
            self._homes.remember(home, token_ids)
        try:
            collector = await self._llm.add_request(
                self._session_id,
                self._chunks(),
                params,
                lora_request=self._adapter,
                data_parallel_rank=None if home is None else home.engine,
            )
        except EngineDeadError as error:
            self._open.discard(self._session_id)
            raise EngineDead(str(error)) from error
        self._outputs = Outputs(collector)

    async def deltas(self) -> AsyncIterator[Delta]:
        """Yield deltas until the session is closed."""
        assert self._outputs is not None
        while not self._closed:
            delta = await self._outputs.next_delta()
            if delta is None:
                return
            self._tokens += len(delta.token_ids)
            yield delta

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        """Append tokens; see `EngineStream.extend`.

        Raises:
            SessionClosed: the session is over.
            SessionDetached: the engine let the paused session go, or its adapter was loaded again
                while it was paused: what it has computed is of the old weights.
            ContextFull: the tokens leave no room to generate.
        """
        if self._closed:
            raise SessionClosed(f"session {self._session_id} is closed")
        assert self._outputs is not None
        if self._outputs.detached:
            raise SessionDetached(f"session {self._session_id} was let go while it was paused")
        adapter = self._adapter
        if (
            adapter is not None
            and self._outputs.turn_is_over
            and self._adapters.find(adapter.lora_name) is not adapter
        ):
            await self.close()
            raise SessionDetached(f"adapter {adapter.lora_name} was loaded again meanwhile")
        require_room(self._tokens + len(token_ids), self._llm.model_config.max_model_len)
        self._put(token_ids, self._params(sampling, endpoint), sampling.salt)

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        """Tell the scheduler; see `EngineStream.progress`."""
        if self._outputs is not None and not self._closed:
            await report_progress(
                self._llm, self._outputs.request_id, fraction, remaining_seconds, endpoint
            )

    async def name_next_pause(self, endpoint: str) -> None:
        """Tell the scheduler; see `EngineStream.name_next_pause`."""
        if self._outputs is not None and not self._closed:
            await name_next_pause(self._llm, self._outputs.request_id, endpoint)

    async def close(self) -> None:
        """Abort whatever the session does and free all that it holds."""
        if self._closed:
            return
        self._closed = True
        self._open.discard(self._session_id)
        if self._outputs is not None:
            self._outputs.end()
            await self._llm.abort(self._outputs.request_id, internal=True)

    def _params(self, sampling: Sampling, endpoint: str | None) -> SamplingParams:
        model = self._llm.model_config
        if sampling.frames is not None and model.skip_tokenizer_init:
            raise ConfigurationError(
                "CML frames need the model's tokenizer: start the engine without "
                "--skip-tokenizer-init"
            )
        speculates = self._llm.vllm_config.speculative_config is not None
        return to_vllm(sampling, endpoint, speculates=speculates)

    def _put(self, token_ids: Sequence[int], params: SamplingParams, salt: str | None) -> None:
        self._tokens += len(token_ids)
        # vLLM extends the prompt list of an earlier chunk in place: hand over a copy.
        prompt = TokensPrompt(prompt_token_ids=list(token_ids))
        if salt is not None:
            prompt["cache_salt"] = salt
        self._inputs.put_nowait(StreamingInput(prompt=prompt, sampling_params=params))

    async def _chunks(self) -> AsyncGenerator[StreamingInput, None]:
        while True:
            yield await self._inputs.get()
