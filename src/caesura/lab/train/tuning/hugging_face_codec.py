"""The codec of a Hugging Face tokenizer with CML's markers and chat template."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from caesura.cml import MARKERS, IncrementalDecoder, Mode, escape
from caesura.lab.train.tuning.template import MODE_VARIABLE, after_question, end_of_answer
from caesura.lab.train.wide.tool_codec import ToolCodec
from caesura.lab.train.wide.tools import SchemaTool
from caesura.session.calling.durations import duration_sentence

_LONGEST_CHARACTER_TOKENS = 8


class HuggingFaceCodec(ToolCodec):
    """Prompts by the chat template, text by the tokenizer.

    Args:
        tokenizer: a fast tokenizer with the markers and an extended chat template.
        end: the token that ends the model's turn.

    Raises:
        ValueError: the tokenizer lacks a marker.
    """

    def __init__(self, tokenizer: Any, end: str) -> None:
        pad = tokenizer.pad_token or end
        super().__init__(tokenizer.backend_tokenizer, end, pad)
        self._tokenizer = tokenizer
        self._tails: dict[Mode, tuple[str, str]] = {}

    @cached_property
    def texts(self) -> list[str]:
        """The text of each token behind another, in order of their ids."""
        anchor = self.tokenize("a")[-1:]
        size = self.tokenizer.get_vocab_size()
        pairs = [[*anchor, index] for index in range(size)]
        start = len(self.tokenizer.decode(anchor, skip_special_tokens=False))
        texts: list[str] = self.tokenizer.decode_batch(pairs, skip_special_tokens=False)
        return [text[start:] for text in texts]

    def decode(self, token_ids: Sequence[int], final: bool = True) -> str:
        """Text of tokens that are complete."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=False)
        return text

    def decoder(self) -> IncrementalDecoder:
        """See `SessionCodec`: characters of several tokens come when they are complete."""
        return _StreamDecoder(self)

    def prompt_of(self, question: str, tools: Sequence[SchemaTool], mode: Mode) -> list[int]:
        """See `ToolCodec`."""
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": escape(question, MARKERS)}],
            tools=[_definition(tool) for tool in tools],
            tokenize=False,
            add_generation_prompt=True,
            **{MODE_VARIABLE: mode.value},
        )
        return self.tokenize(text)

    def continued(
        self, tokens: Sequence[int], question: str, tools: Sequence[SchemaTool], mode: Mode
    ) -> list[int]:
        """See `ToolCodec`."""
        if mode not in self._tails:
            variables = {MODE_VARIABLE: mode.value}
            between = end_of_answer(self._tokenizer, **variables)
            self._tails[mode] = between, after_question(self._tokenizer, **variables)
        between, after = self._tails[mode]
        tail = self.tokenize(between + escape(question, MARKERS) + after)
        assert tail[0] == self.eos == tokens[-1]
        return [*tokens, *tail[1:]]


class _StreamDecoder:
    """Text of one stream: `IncrementalDecoder`."""

    def __init__(self, codec: HuggingFaceCodec) -> None:
        self._codec = codec
        self._held: list[int] = []

    def __call__(self, token_ids: Sequence[int], final: bool) -> str:
        text = ""
        for token in token_ids:
            self._held.append(token)
            if len(self._held) == 1 and "\ufffd" not in self._codec.texts[token]:
                text += self._codec.texts[token]
                self._held = []
            elif len(self._held) > 1:
                decoded = self._codec.decode(self._held)
                if not decoded.endswith("\ufffd") or len(self._held) >= _LONGEST_CHARACTER_TOKENS:
                    text += decoded
                    self._held = []
        if final and self._held:
            text += self._codec.decode(self._held)
            self._held = []
        return text


def _definition(tool: SchemaTool) -> dict[str, object]:
    """The tool as a request gives it, its expected duration in its description."""
    description = tool.description
    if tool.expected_seconds is not None:
        description += f" {duration_sentence(tool.expected_seconds)}"
    function = {"name": tool.name, "description": description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
