"""Makes any model follow a script of tool calls. Runs in the engine's process.

Not what the model says is tested with it, but what the system does: the engine, the server,
the parser and the client are the real ones. A prompt without tools is not touched.
"""

from functools import cached_property

import torch
from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

CALLS = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Berlin"}}\n</tool_call>',
    '<tool_call>\n{"name": "get_time", "arguments": {"city": "Berlin"}}\n</tool_call>',
)
ANSWER_TOKENS = 24


class ScriptedToolCalls(AdapterLogitsProcessor):
    """One tool call after another, then a free answer of `ANSWER_TOKENS` tokens."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        super().__init__(vllm_config, device, is_pin_memory)
        self._model = vllm_config.model_config.tokenizer

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: SamplingParams):
        return self._force

    @cached_property
    def _tokenizer(self):
        return AutoTokenizer.from_pretrained(self._model)

    @cached_property
    def _scripts(self) -> list[list[int]]:
        end = "<|im_end|>"
        return [self._tokenizer.encode(call + end, add_special_tokens=False) for call in CALLS]

    @cached_property
    def _markers(self) -> tuple[list[int], int, int]:
        ids = self._tokenizer.convert_tokens_to_ids
        tools = self._tokenizer.encode("</tools>", add_special_tokens=False)
        return tools, ids("<tool_response>"), ids("<|im_end|>")

    def _force(self, prompt: list[int], output: list[int], logits: torch.Tensor) -> torch.Tensor:
        tools, response, end = self._markers
        if not _contains(list(prompt), tools):
            return logits
        step = list(prompt).count(response)
        if step < len(self._scripts):
            forced = self._scripts[step][min(len(output), len(self._scripts[step]) - 1)]
        elif len(output) >= ANSWER_TOKENS:
            forced = end
        else:
            return logits
        only = torch.full_like(logits, float("-inf"))
        only[forced] = 0.0
        return only


def _contains(tokens: list[int], part: list[int]) -> bool:
    return any(
        tokens[start : start + len(part)] == part for start in range(len(tokens) - len(part) + 1)
    )
