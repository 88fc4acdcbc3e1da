"""`TokenEngine` on stock vLLM, which others are compared with: a request per turn."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from vllm import SamplingParams
from vllm.inputs import TokensPrompt
from vllm.v1.engine.async_llm import AsyncLLM

from caesura.engine.serving.token_engines import Outputs, to_vllm
from caesura.errors import ConfigurationError
from caesura.lab.bench.vllm_metered import COMPUTED_BEFORE
from caesura.session.errors import SessionClosed
from caesura.session.protocol import Delta, EngineStream, Sampling, StopReason, require_room


class ResubmittingEngine:
    """Sessions as users run them on stock vLLM: each turn is a new request with all tokens.

    Interrupts are what such clients can do: stop reading, and submit again.
    """

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> EngineStream:
        """Start a session; see `TokenEngine.open`."""
        require_room(len(token_ids), self._llm.model_config.max_model_len)
        stream = _ResubmittingStream(self._llm, session_id)
        await stream.extend(token_ids, sampling, endpoint)
        return stream


class _ResubmittingStream:
    def __init__(self, llm: AsyncLLM, session_id: str) -> None:
        self._llm = llm
        self._session_id = session_id
        self._transcript: list[int] = []
        self._turns: asyncio.Queue[SamplingParams | None] = asyncio.Queue()
        self._pending: list[tuple[int, ...]] = []
        self._request_id: str | None = None
        self._turn = 0
        self._closed = False

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        """Queue a turn with more tokens.

        Raises:
            ConfigurationError: it is to have CML frames, which a request cannot be held at.
        """
        if sampling.frames is not None:
            raise ConfigurationError("stock vLLM has no CML frames: use Caesura's scheduler")
        if self._closed:
            raise SessionClosed(f"session {self._session_id} is closed")
        require_room(len(self._transcript) + len(token_ids), self._llm.model_config.max_model_len)
        self._pending.append(tuple(token_ids))
        self._turns.put_nowait(to_vllm(sampling, None))

    async def deltas(self) -> AsyncIterator[Delta]:
        """Yield deltas until the session is closed."""
        while not self._closed:
            params = await self._turns.get()
            if params is None:
                return
            # All but the last token, which was sampled, and not computed.
            params.extra_args = {COMPUTED_BEFORE: max(0, len(self._transcript) - 1)}
            self._transcript.extend(self._pending.pop(0))
            self._turn += 1
            prompt = TokensPrompt(prompt_token_ids=list(self._transcript))
            request_id = f"{self._session_id}-turn-{self._turn}"
            outputs = Outputs(await self._llm.add_request(request_id, prompt, params))
            self._request_id = outputs.request_id
            while True:
                delta = await outputs.next_delta()
                if delta is None or self._closed:
                    return
                self._transcript.extend(delta.token_ids)
                if delta.stop is None and self._pending:
                    await self._llm.abort(outputs.request_id, internal=True)
                    delta = Delta(delta.token_ids, StopReason.INTERRUPTED)
                yield delta
                if delta.stop is not None:
                    break
            self._request_id = None

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        """Stock vLLM knows of no pause, and expects nobody back."""

    async def name_next_pause(self, endpoint: str) -> None:
        """Stock vLLM knows of no pause."""

    async def close(self) -> None:
        """Abort the turn that runs, if any."""
        if self._closed:
            return
        self._closed = True
        self._turns.put_nowait(None)
        if self._request_id is not None:
            await self._llm.abort(self._request_id, internal=True)
