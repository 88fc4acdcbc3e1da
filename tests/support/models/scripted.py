"""Makes any model follow a script of tool calls. Runs in the engine's process.

Not what the model says is tested with it, but what the system does: the engine, the server,
the parser and the client are the real ones. A prompt without tools is not touched.
"""

import json
from functools import cached_property
from typing import Any

import torch
from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

CALLS = (("get_weather", {"city": "Berlin"}), ("get_time", {"city": "Berlin"}))
# Where the first tool of one of these is offered, they are called instead.
OTHER_CALLS = (
    (("notes_add", {"text": "The kettle is on."}), ("notes_read", {})),
    (("release", {"version": "1.2"}),),
    (("ask_expert", {"prompt": "Why is the sky blue?"}),),
)
# The same, all in one turn.
BUNDLE = (
    ("look_up", {"what": "the sky", "task_handle": "one"}),
    ("look_up", {"what": "the sea", "task_handle": "two"}),
    ("wait_for_tasks", {"task_handles": ["one", "two"]}),
)
# And where these are, this is written.
TEXTS = {
    "look": 'I look. <tool_call>\n{"name": "look", "arguments": {"at": "it"}}\n</tool_call>\n'
    "Three essentials.<|im_end|>",
}
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
    def _scripts(self) -> list[tuple[list[int], list[list[int]]]]:
        """What of a prompt each script is for, and the turns of its calls."""
        return [
            (self._encode(f'"name": "{turns[0][0][0]}"'), [self._encode(_turn(*t)) for t in turns])
            for turns in [*([(call,) for call in calls] for calls in OTHER_CALLS), [BUNDLE]]
        ] + [
            (self._encode(f'"name": "{name}"'), [self._encode(text)])
            for name, text in TEXTS.items()
        ]

    @cached_property
    def _usual_script(self) -> list[list[int]]:
        return [self._encode(_turn(call)) for call in CALLS]

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _script(self, prompt: list[int]) -> list[list[int]]:
        for mark, script in self._scripts:
            if _contains(prompt, mark):
                return script
        return self._usual_script

    @cached_property
    def _markers(self) -> tuple[list[int], int, int]:
        ids = self._tokenizer.convert_tokens_to_ids
        return self._encode("</tools>"), ids("<tool_response>"), ids("<|im_end|>")

    def _force(self, prompt: list[int], output: list[int], logits: torch.Tensor) -> torch.Tensor:
        tools, response, end = self._markers
        if not _contains(list(prompt), tools):
            return logits
        script = self._script(list(prompt))
        step = list(prompt).count(response)
        if step < len(script):
            forced = script[step][min(len(output), len(script[step]) - 1)]
        elif len(output) >= ANSWER_TOKENS:
            forced = end
        else:
            return logits
        only = torch.full_like(logits, float("-inf"))
        only[forced] = 0.0
        return only


def _turn(*calls: tuple[str, dict[str, Any]]) -> str:
    made = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in calls]
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in made) + "<|im_end|>"


def _contains(tokens: list[int], part: list[int]) -> bool:
    return any(
        tokens[start : start + len(part)] == part for start in range(len(tokens) - len(part) + 1)
    )
