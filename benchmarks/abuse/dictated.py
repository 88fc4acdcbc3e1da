"""Makes the served model write what an attacker wants, as if it could be talked into anything.

A logits processor of the benchmark's server. Where the last message says `dictate:NAME`, the model
writes the text of that name and ends; requests without one are not touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

DICTATED = "abuse.dictated:Dictated"
"""The name by which vLLM loads it."""

_DEPTH = 300
_SLOW_CALL = "<tool_call><function=a><parameter=b>"
TEXTS = {
    # Parsers of several models go through such a text again from each of its tags.
    "slow": _SLOW_CALL * 100,
    "brackets": "[a(b=" * 600,
    "nested": '[CALL]c1[HEAD]{"name": "search", "arguments": {"filter": %s}}[END]'
    % ("[" * _DEPTH + "]" * _DEPTH),
    "surrogate": '[CALL]c1[HEAD]{"name": "ask", "arguments": {"question": "\\ud800"}}[END]',
    "long": '[CALL]c1[HEAD]{"name": "search", "arguments": {"filter": "%s"}}[END]' % ("x" * 2000),
    "calls": "".join(
        f'[CALL]c{n}[HEAD]{{"name": "search", "arguments": {{"filter": {n}}}}}[END]'
        for n in range(60)
    ),
}
"""What can be dictated, by name."""

_FURTHEST = 40  # tokens between the request for a dictation and the answer


def request_for(name: str) -> str:
    """The message that makes the model write a text."""
    return f"dictate:{name}."


@dataclass(frozen=True, slots=True)
class _Writing:
    """A text that a request writes.

    Attributes:
        tokens: the text, and the end of the sequence.
        generated: the request's tokens so far, kept up to date by vLLM.
    """

    tokens: Sequence[int]
    generated: Sequence[int]

    def next_token(self) -> int:
        return self.tokens[min(len(self.generated), len(self.tokens) - 1)]


class Dictated(LogitsProcessor):
    """Leaves one token possible in the rows of requests that write a text."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        tokenizer = AutoTokenizer.from_pretrained(vllm_config.model_config.tokenizer)
        self._device = device
        self._texts = [
            (
                tokenizer.encode(request_for(name), add_special_tokens=False),
                [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id],
            )
            for name, text in TEXTS.items()
        ]
        self._writing: dict[int, _Writing] = {}

    def is_argmax_invariant(self) -> bool:
        """It decides what is greatest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Take requests that come, go or move in the batch."""
        process_dict_updates(self._writing, batch_update, self._begin)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask all but one token, in place; `logits` is requests x vocabulary."""
        if self._writing:
            tokens = [writing.next_token() for writing in self._writing.values()]
            rows = torch.tensor(list(self._writing), device=self._device)
            logits[rows] = -torch.inf
            logits[rows, torch.tensor(tokens, device=self._device)] = 0.0
        return logits

    def _begin(
        self, params: SamplingParams, prompt: list[int] | None, generated: list[int]
    ) -> _Writing | None:
        end = (prompt or [])[-_FURTHEST:]
        for asked, tokens in self._texts:
            if any(end[at : at + len(asked)] == asked for at in range(len(end))):
                return _Writing(tokens, generated)
        return None
