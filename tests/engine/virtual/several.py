"""Several engines in virtual time behind one engine client, as vLLM has them (data parallel)."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.core_client import DPLBAsyncMPClient

from caesura.engine.scheduler import InterceptScheduler
from engine.virtual.engine import Shape, VirtualEngine


def balancer(engines: int) -> DPLBAsyncMPClient:
    """What chooses among engines in vLLM, without the engines."""
    client: Any = object.__new__(DPLBAsyncMPClient)
    client.core_engines = [rank.to_bytes(2, "little") for rank in range(engines)]
    client.lb_engines = [[0, 0, 0.0] for _ in range(engines)]
    client.reqs_in_flight = {}
    client.engine_inflight = Counter()
    client.client_count, client.client_index, client.eng_start_index = 1, 0, 0
    return client


def chosen(client: DPLBAsyncMPClient, request_id: str, rank: int | None = None) -> int:
    """The engine that vLLM gives a request to."""
    request: Any = SimpleNamespace(
        request_id=request_id, data_parallel_rank=rank, pooling_params=None
    )
    return client.core_engines.index(client.get_core_engine_for_request(request))


async def over(client: DPLBAsyncMPClient, *request_ids: str) -> None:
    """Requests are over: the balancer counts them no longer."""
    outputs: Any = SimpleNamespace(finished_requests=set(request_ids))
    await DPLBAsyncMPClient.process_engine_outputs(client, outputs)


class VirtualRanks:
    """The part of vLLM's engine client that generates.

    Attributes:
        engines: by rank.
        computed_tokens: of prompts, those that no engine had.
        ranks: where each request went.
    """

    def __init__(self, engines: int, shape: Shape, seed: int = 0) -> None:
        self.engines = [VirtualEngine(shape, random.Random(seed + n)) for n in range(engines)]
        self.computed_tokens: dict[str, int] = {}
        self.ranks: dict[str, int] = {}
        self._balancer = balancer(engines)
        self._outputs: dict[str, asyncio.Queue[EngineCoreOutput]] = {}

    def in_charge(self, rank: int) -> int | None:
        """The tokens that an engine has reported last."""
        scheduler = self.engines[rank].scheduler
        assert isinstance(scheduler, InterceptScheduler)
        scheduler.keeper.gauges.read(idle=True)
        stats = scheduler.metrics.take()
        return None if stats is None else stats.data["gauges"]["tokens_in_charge"]

    async def generate(
        self,
        prompt: Mapping[str, Any],
        params: SamplingParams,
        request_id: str,
        *,
        data_parallel_rank: int | None = None,
        session_id: str | None = None,
    ) -> AsyncIterator[RequestOutput]:
        """As vLLM's."""
        tokens = prompt["prompt_token_ids"]
        rank = chosen(self._balancer, request_id, data_parallel_rank)
        engine, self.ranks[request_id] = self.engines[rank], rank
        outputs = self._outputs[request_id] = asyncio.Queue[EngineCoreOutput]()
        request = engine.request(
            request_id,
            tokens,
            max_tokens=params.max_tokens or 1,
            stop_tokens=params.stop_token_ids or (),
            session_id=session_id,
            extra_args=params.extra_args,
        )
        engine.scheduler.add_request(request)
        generated: list[int] = []
        deltas = params.output_kind == RequestOutputKind.DELTA
        while True:
            output = await outputs.get()
            generated += output.new_token_ids
            ended = output.finish_reason is not None
            choice = CompletionOutput(
                index=0,
                text="",
                token_ids=output.new_token_ids if deltas else list(generated),
                cumulative_logprob=None,
                logprobs=None,
                finish_reason=str(output.finish_reason) if ended else None,
                stop_reason=output.stop_reason,
            )
            if ended:
                await over(self._balancer, request_id)
            yield RequestOutput(request_id, None, tokens, None, [choice], ended)
            if ended:
                return

    async def run(self) -> None:
        """Step all engines, the one that is furthest behind first, until cancelled."""
        while True:
            await asyncio.sleep(0)
            busy = [engine for engine in self.engines if engine.has_work()]
            if not busy:
                continue
            engine = min(busy, key=lambda each: each.now_seconds)
            for output in engine.step():
                if (stats := output.prefill_stats) is not None:
                    self.computed_tokens[output.request_id] = stats.num_computed_tokens
                self._outputs[output.request_id].put_nowait(output)
