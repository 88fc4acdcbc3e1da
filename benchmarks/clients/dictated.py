"""Makes any model write what a task dictates. Runs in the engine's process.

Server, parsers and clients are the real ones; only the model's mind is replaced. A task is named in
the user's message, as `[[NAME]]`, and the turns behind it say how far it has come.
"""

import json
import re
from collections.abc import Callable
from functools import cached_property

import torch
from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

END = "<|im_end|>"
TASK = re.compile(r"\[\[(\w+)\]\]")
ASSISTANT = "<|im_start|>assistant\n"
ANSWER = "It rains in Berlin at noon."


def call(name: str, **arguments: str) -> str:
    """A turn that calls a tool."""
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{body}\n</tool_call>"


def code(text: str) -> str:
    """A turn that runs code."""
    return f"I look it up.\n<code>\n{text}\n</code>"


TASKS = {
    "tools": [call("get_weather", city="Berlin"), call("get_time", city="Berlin"), ANSWER],
    "final": [
        call("get_weather", city="Berlin"),
        call("get_time", city="Berlin"),
        call("final_answer", answer=ANSWER),
    ],
    "code": [
        code('print(get_weather(city="Berlin"))'),
        code('print(get_time(city="Berlin"))'),
        code(f'final_answer("{ANSWER}")'),
    ],
    "bash": [
        call("bash", command="echo rain"),
        call("bash", command="echo noon"),
        call("bash", command=f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo '{ANSWER}'"),
    ],
    "codex": [
        call("exec_command", cmd="echo rain"),
        call("exec_command", cmd="echo noon"),
        ANSWER,
    ],
    "opencode": [
        call("bash", command="echo rain", description="Look."),
        call("bash", command="echo noon", description="Look."),
        ANSWER,
    ],
    "qwen": [
        call("run_shell_command", command="echo rain", is_background="false"),
        call("run_shell_command", command="echo noon", is_background="false"),
        ANSWER,
    ],
}

Force = Callable[[list[int], list[int], torch.Tensor], torch.Tensor]


class Dictation(AdapterLogitsProcessor):
    """One turn of a task after the other; prompts without a task are left alone."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        super().__init__(vllm_config, device, is_pin_memory)
        self._model = vllm_config.model_config.tokenizer

    def is_argmax_invariant(self) -> bool:
        """See the base class."""
        return False

    @cached_property
    def _tokenizer(self):  # type: ignore[no-untyped-def]
        return AutoTokenizer.from_pretrained(self._model)

    def new_req_logits_processor(self, params: SamplingParams) -> Force:
        """What dictates one request; its prompt is read once."""
        turn: list[int] | None = None

        def force(prompt: list[int], output: list[int], logits: torch.Tensor) -> torch.Tensor:
            nonlocal turn
            if turn is None:
                turn = self._turn(list(prompt))
            if not turn:
                return logits
            only = torch.full_like(logits, float("-inf"))
            only[turn[min(len(output), len(turn) - 1)]] = 0.0
            return only

        return force

    def _turn(self, prompt: list[int]) -> list[int]:
        text = self._tokenizer.decode(prompt)
        found = list(TASK.finditer(text))
        if not found or found[-1][1] not in TASKS:
            return []
        turns = TASKS[found[-1][1]]
        written = text[found[-1].end() :].count(ASSISTANT) - 1
        said = turns[min(max(written, 0), len(turns) - 1)] + END
        return list(self._tokenizer.encode(said, add_special_tokens=False))
