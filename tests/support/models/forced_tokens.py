"""A logits processor that makes sessions write a script, whatever the model would say.

The engine computes every token, only the choice is made. The
position in the script is found from the context itself, by counting what stands behind the first
prompt and is not injected, so that interrupts, pauses, tokens that were cut off and preemption
cannot shift it:

    prompt | See . [CALL] ... [END] [INTR] ... [END] [TRAP] [END] [INTR] ... [END] Done
             0   1   2  ...     6   ─ not counted ─    7     8    ─ not counted ─    9

Start an engine with `logits_processors=[FORCED_TOKENS]` (vLLM's own model runner V1; without
speculative decoding), and give `Sampling.extra` a `script`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from caesura.cml import FrameRules

FORCED_TOKENS = "support.models.forced_tokens:ForcedTokens"
"""The name by which vLLM loads it, in every process of an engine."""

SCRIPT_ARGUMENT = "caesura_script"
"""Key in `SamplingParams.extra_args` of every turn of a session that writes a script."""


def script(token_ids: Sequence[int], prompt_tokens: int, frames: FrameRules) -> dict[str, object]:
    """What a session with these frames is made to write, and then end, for `Sampling.extra`.

    Args:
        token_ids: all that it writes, over all turns; interrupts may come anywhere in it.
        prompt_tokens: how many tokens the session's first prompt has.
        frames: of the session.
    """
    argument = {
        "token_ids": list(token_ids),
        "prompt_tokens": prompt_tokens,
        "injected": [frames.interrupt, frames.end],
    }
    return {SCRIPT_ARGUMENT: argument}


@dataclass(frozen=True, slots=True)
class _Part:
    """What is left of a script in a turn.

    Attributes:
        script: all of it, and then the end of the sequence.
        position: of the turn's first token.
        generated: the turn's tokens so far, kept up to date by vLLM; the last may be unknown yet.
    """

    script: Sequence[int]
    position: int
    generated: Sequence[int]

    def next_token(self) -> int:
        return self.script[min(self.position + len(self.generated), len(self.script) - 1)]


class ForcedTokens(LogitsProcessor):
    """Leaves one token possible in the rows of requests that have a script."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._parts: dict[int, _Part] = {}

    def is_argmax_invariant(self) -> bool:
        """It decides what is greatest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Take requests that come, go or move in the batch."""
        process_dict_updates(self._parts, batch_update, self._part)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask all but one token, in place; `logits` is requests x vocabulary."""
        if self._parts:
            tokens = [part.next_token() for part in self._parts.values()]
            rows = torch.tensor(list(self._parts), device=self._device)
            logits[rows] = -torch.inf
            logits[rows, torch.tensor(tokens, device=self._device)] = 0.0
        return logits

    def _part(
        self, params: SamplingParams, prompt: list[int] | None, generated: list[int]
    ) -> _Part | None:
        argument = (params.extra_args or {}).get(SCRIPT_ARGUMENT)
        if argument is None or prompt is None or params.eos_token_id is None:
            return None
        behind = prompt[argument["prompt_tokens"] :]
        position = _written(behind, *argument["injected"])
        return _Part([*argument["token_ids"], params.eos_token_id], position, generated)


def _written(token_ids: Sequence[int], interrupt: int, end: int) -> int:
    """How many of these tokens are in no injected frame."""
    written, injected = 0, False
    for token_id in token_ids:
        injected = injected or token_id == interrupt
        written += not injected
        injected = injected and token_id != end
    return written
