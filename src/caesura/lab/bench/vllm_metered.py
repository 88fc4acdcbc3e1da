"""vLLM's own scheduler, and a meter of waste that only looks: stock in comparisons."""

import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.simple_kv_offload.metadata import SimpleCPUOffloadMetadata

from caesura.engine.metrics import PauseMetrics, counter_key
from caesura.engine.pauses.pause import RecomputeCause
from caesura.engine.pauses.steps import Steps
from caesura.engine.pauses.waste import WasteMeter
from caesura.lab.bench.engines import Waste
from caesura.processes import end_engine_with_parent

COMPUTED_BEFORE = "computed_before"
"""Extra argument of a request: its leading tokens that a request before it had computed."""

METERED = {"scheduler_cls": "caesura.lab.bench.vllm_metered.MeteredScheduler"}
"""Arguments of an engine with the scheduler below."""

_PUBLISH_SECONDS = 0.2


def waste_of(counts: Mapping[str, float]) -> Waste | None:
    """From an engine's counts, by name and with labels by `counter_key`; None if it has not
    measured any time."""
    device = counts.get("device_token_seconds", 0.0)
    if not device:
        return None

    def share(kind: str) -> float:
        return counts.get(counter_key("waste_token_seconds", kind), 0.0) / device

    return Waste(*(share(field.name) for field in fields(Waste)))


class MeteredScheduler(AsyncScheduler):
    """Schedules as vLLM does. Nothing pauses, so no memory is held.

    Attributes:
        clock: monotonic seconds; whoever runs it in virtual time sets another one first.
    """

    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        end_engine_with_parent()
        super().__init__(*args, **kwargs)
        self.metrics = PauseMetrics()
        # Blocks that vLLM's own offloading loads, by the request that waits longest for them.
        self._loading: dict[str, int] = {}
        self.waste = WasteMeter(self, self.metrics, self.clock, lambda: sum(self._loading.values()))
        self._steps = Steps()
        self._published_seconds = 0.0

    def add_request(self, request: Request) -> None:
        """As vLLM's; what its client had computed before is computed again if it is not found."""
        extra = request.sampling_params.extra_args if request.sampling_params else None
        computed = (extra or {}).get(COMPUTED_BEFORE, 0)
        self.waste.had(request.request_id, computed, RecomputeCause.EVICTED)
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """As vLLM's."""
        self._steps.schedule(self.current_step + 1, self.clock())
        output = super().schedule(throttle_prefills)
        loads = output.kv_connector_metadata
        if isinstance(loads, SimpleCPUOffloadMetadata) and loads.load_event >= 0:
            *_, last = loads.load_event_to_reqs[loads.load_event]
            self._loading[last] = len(loads.load_gpu_blocks)
        self.waste.scheduled(output)
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """As vLLM's, with the counts in its statistics."""
        scheduled_seconds = self._steps.take()
        copies = model_runner_output.kv_connector_output
        for request_id in (copies.finished_recving or ()) if copies is not None else ():
            self._loading.pop(request_id, None)
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        now = self.clock()
        self.waste.iterated(self._steps.end(scheduled_seconds, now), now)
        self._publish(outputs, now)
        return outputs

    def _publish(self, outputs: dict[int, EngineCoreOutputs], now: float) -> None:
        stats = next((out.scheduler_stats for out in outputs.values() if out.scheduler_stats), None)
        idle = not self.running and not self.waiting
        if stats is None or (not idle and now - self._published_seconds < _PUBLISH_SECONDS):
            return
        self._published_seconds = now
        self.waste.publish()
        counted = self.metrics.take()
        if counted is not None:
            stats.kv_connector_stats = counted.to_dict()

    def _preempt_request(
        self, request: Request, timestamp: float, drop_stale_output: bool = False
    ) -> None:
        computed = request.num_computed_tokens - request.num_output_placeholders
        self.waste.had(request.request_id, computed, RecomputeCause.PREEMPTED)
        super()._preempt_request(request, timestamp, drop_stale_output)

    def _free_request(
        self, request: Request, delay_free_blocks: bool = False
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        self.waste.forget(request.request_id)
        return super()._free_request(request, delay_free_blocks)

    def reset_prefix_cache(
        self, reset_running_requests: bool = False, reset_connector: bool = False
    ) -> bool:
        """As vLLM's; the meter starts anew."""
        self.waste.restart()
        return super().reset_prefix_cache(reset_running_requests, reset_connector)
