"""A logits processor that makes sessions write a known answer, for measurements.

The engine computes each step as always; only which token is sampled is decided by the plan of
calls that a request carries (`caesura.lab.bench.function_calling.call_plan`), or by the script of
its turn. vLLM's own server loads it, too: `--logits-processors`.
"""

from collections.abc import Sequence

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from caesura.lab.bench.function_calling.call_plan import (
    ARGUMENT,
    SCRIPT_ARGUMENT,
    CallPlan,
    PlannedWriter,
)

PLANNED_CALLS = "caesura.lab.bench.function_calling.vllm_planned_calls:PlannedCallsProcessor"
"""The name by which vLLM loads it: `logits_processors=[PLANNED_CALLS]` when an engine starts."""


class PlannedCallsProcessor(AdapterLogitsProcessor):
    """Decides for the requests that carry a plan or a script, and for no others."""

    def is_argmax_invariant(self) -> bool:
        """It decides what greedy sampling takes."""
        return False

    def new_req_logits_processor(self, params: SamplingParams) -> "_Forced | _Scripted | None":
        """One for each request that carries a plan or a script."""
        extra = params.extra_args or {}
        if (script := extra.get(SCRIPT_ARGUMENT)) is not None:
            return _Scripted(*script)
        plan = extra.get(ARGUMENT)
        return None if plan is None else _Forced(CallPlan.of_argument(plan))


class _Forced:
    """Forces the tokens of one request; reads what is new of its context at each step."""

    def __init__(self, plan: CallPlan) -> None:
        self._writer = PlannedWriter(plan)
        self._prompt_was_read = False
        self._outputs_read = 0

    def __call__(
        self, prompt_ids: list[int], output_ids: list[int], logits: torch.Tensor
    ) -> torch.Tensor:
        if not self._prompt_was_read:
            self._writer.read(prompt_ids)
            self._prompt_was_read = True
        self._writer.read(output_ids[self._outputs_read :])
        self._outputs_read = len(output_ids)
        logits.fill_(float("-inf"))
        logits[self._writer.next_token()] = 0.0
        return logits


class _Scripted:
    """Forces the tokens of one turn, from its place in the context on."""

    def __init__(self, start: int, *token_ids: int) -> None:
        self._start = start
        self._token_ids = token_ids

    def __call__(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], logits: torch.Tensor
    ) -> torch.Tensor:
        start = self._start or len(prompt_ids)
        place = len(prompt_ids) + len(output_ids) - start
        logits.fill_(float("-inf"))
        logits[self._token_ids[min(place, len(self._token_ids) - 1)]] = 0.0
        return logits
