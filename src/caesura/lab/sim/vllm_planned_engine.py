"""`TokenEngine` in virtual time: sessions on the production scheduler and a modelled device.

A session writes the plan of calls that it carries, or the script of its turn
(`caesura.lab.bench.function_calling.call_plan`).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoTokenizer
from vllm.sampling_params import SamplingParams
from vllm.v1.core.kv_cache_utils import BlockHash
from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.request import Request

from caesura.engine.config import CaesuraConfig
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat
from caesura.engine.protocol import FRAME_ENDED
from caesura.engine.scheduler import InterceptScheduler
from caesura.engine.serving.token_engines import STOPS, to_vllm
from caesura.lab.bench.function_calling.call_plan import (
    ARGUMENT,
    SCRIPT_ARGUMENT,
    CallPlan,
    PlannedWriter,
)
from caesura.lab.sim.device import ModelledDevice
from caesura.lab.sim.vllm_config import base_config
from caesura.lab.sim.vllm_engine import TOKEN, HeadlessEngine, HeadlessSettings
from caesura.policy.profile import DeviceProfile
from caesura.session import Delta, Sampling, StopReason

_BLOCK_SIZE = 16
_MOST_CONTEXT_TOKENS = 8192
_PREFILLED_PER_DECODED = 200
"""So many tokens are prefilled in the time that one is decoded."""
KV_BYTES_PER_TOKEN = 128 * 2**10


def profile_of(token_seconds: float) -> DeviceProfile:
    """A device that decodes at that speed, whatever the batch and the context; its link is that of
    an A100, and its tokens are as large as those of Llama 3.1 8B."""
    return DeviceProfile(
        name="modelled",
        model="any",
        measured=False,
        seconds_per_iteration=token_seconds,
        seconds_per_query_token=token_seconds / _PREFILLED_PER_DECODED,
        seconds_per_context_token=0.0,
        seconds_per_sequence=0.0,
        saturation_tokens=_PREFILLED_PER_DECODED,
        kv_bytes_per_token=KV_BYTES_PER_TOKEN,
        link_bytes_per_second=32 * 10**9,
        link_overlaps=True,
    )


class PlannedEngine(HeadlessEngine):
    """A scheduler without a model, whose requests write their plans of calls.

    Args:
        model: folder of the model whose tokens they are.
        token_seconds: to decode one.
        kv_tokens: device memory.
        caesura: how contexts are kept; its profile is set here.
    """

    def __init__(
        self, model: Path, token_seconds: float, kv_tokens: int, caesura: CaesuraConfig
    ) -> None:
        profile = profile_of(token_seconds)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "profile.json"
            profile.save(file)
            settings = HeadlessSettings(
                str(model),
                kv_tokens,
                _BLOCK_SIZE,
                KV_BYTES_PER_TOKEN,
                max_model_len=min(_MOST_CONTEXT_TOKENS, kv_tokens - _BLOCK_SIZE),
                caesura=caesura.model_copy(update={"profile": str(file)}),
            )
            super().__init__(settings, ModelledDevice(profile), lambda session, index: b"")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(model))
        self.model_config = base_config(str(model), _BLOCK_SIZE).model_config
        self.codec = CmlFormat(ChatFormat(self.model_config, self.tokenizer, None))
        assert isinstance(self.scheduler, InterceptScheduler)
        self.scheduler.frames.texts = self.tokenizer.decode
        self._generation = self.model_config.try_get_generation_config()
        self._writers: dict[str, tuple[PlannedWriter, int]] = {}

    def add(self, request_id: str, token_ids: Sequence[int], params: SamplingParams) -> None:
        """A session, or more tokens for one."""
        params.update_from_generation_config(self._generation, self.tokenizer.eos_token_id)
        request = Request(
            request_id=request_id,
            prompt_token_ids=list(token_ids),
            sampling_params=params,
            pooling_params=None,
            arrival_time=self.now_seconds,
            block_hasher=_new_hashes,
            resumable=True,
        )
        self.scheduler.add_request(request)

    def _sampled(self, request: Request) -> list[int]:
        extra = request.sampling_params.extra_args or {}
        if (script := extra.get(SCRIPT_ARGUMENT)) is not None:
            start, *turn = script
            return [turn[min(request.num_tokens - start, len(turn) - 1)]]
        plan = extra.get(ARGUMENT)
        if plan is None:
            return [TOKEN]
        writer, read = self._writers.get(request.request_id, (None, 0))
        if writer is None:
            writer = PlannedWriter(CallPlan.of_argument(plan))
        token_ids = request.all_token_ids
        writer.read(token_ids[read:])
        self._writers[request.request_id] = writer, len(token_ids)
        return [writer.next_token()]


def _new_hashes(request: Request) -> list[BlockHash]:
    first, stop = len(request.block_hashes), request.num_tokens // _BLOCK_SIZE
    ends = [(index + 1) * _BLOCK_SIZE for index in range(first, stop)]
    return [BlockHash(str(hash(tuple(request.all_token_ids[:end]))).encode()) for end in ends]


class VirtualTokenEngine:
    """`TokenEngine` on a `PlannedEngine`, on the clock of the loop: in virtual time
    (`virtual_time`), or in real time.

    `run` steps it for as long as it has work.
    """

    def __init__(self, engine: PlannedEngine) -> None:
        self._engine = engine
        self._streams: dict[str, _Stream] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Step for ever. What comes while a step is under way has its effect in the next one."""
        loop, engine = asyncio.get_running_loop(), self._engine
        while True:
            if not engine.has_work():
                self._changed.clear()
                await self._changed.wait()
            engine.now_seconds = loop.time()
            outputs = engine.step_outputs()
            await asyncio.sleep(engine.now_seconds - loop.time())
            for output in outputs:
                self._streams[output.request_id].outputs.put_nowait(output)

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> "_Stream":
        """See `TokenEngine.open`."""
        stream = self._streams[session_id] = _Stream(self, session_id)
        await stream.extend(token_ids, sampling, endpoint)
        return stream

    def add(self, session_id: str, token_ids: Sequence[int], params: SamplingParams) -> None:
        """More tokens for a session."""
        self._engine.add(session_id, token_ids, params)
        self._changed.set()

    def close(self, session_id: str) -> None:
        """End a session."""
        self._engine.close(session_id)

    @property
    def scheduler(self) -> InterceptScheduler:
        """Takes hints."""
        scheduler = self._engine.scheduler
        assert isinstance(scheduler, InterceptScheduler)
        return scheduler


class _Stream:
    def __init__(self, engine: VirtualTokenEngine, session_id: str) -> None:
        self.outputs: asyncio.Queue[EngineCoreOutput | None] = asyncio.Queue()
        self._engine = engine
        self._session_id = session_id

    async def deltas(self) -> AsyncIterator[Delta]:
        while (output := await self.outputs.get()) is not None:
            yield _delta(output)

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        self._engine.add(self._session_id, token_ids, to_vllm(sampling, endpoint))

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        self._engine.scheduler.report_progress(
            self._session_id, fraction, remaining_seconds, endpoint
        )

    async def name_next_pause(self, endpoint: str) -> None:
        self._engine.scheduler.name_next_pause(self._session_id, endpoint)

    async def close(self) -> None:
        self._engine.close(self._session_id)
        self.outputs.put_nowait(None)


def _delta(output: EngineCoreOutput) -> Delta:
    stop = None
    if output.finish_reason is not None:
        natural = StopReason.LENGTH
        if output.finish_reason is FinishReason.STOP:
            natural = StopReason.STOP
        stop = STOPS.get(str(output.stop_reason), natural)
    tokens = tuple(output.new_token_ids)
    stopped_by = output.stop_reason if isinstance(output.stop_reason, int) else None
    if output.stop_reason == FRAME_ENDED:
        stopped_by = tokens[-1]
    return Delta(tokens, stop, stopped_by)
