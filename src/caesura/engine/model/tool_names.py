"""The names of the tools that an output calls, found in a time that its length does not change.

vLLM's parsers are not used for that in the scheduler: they run over the whole output, some of
them with regular expressions whose time grows faster than the text. Here names are looked for
behind the markers that open calls, in its first and last tokens, and behind markers in between
that are tokens of their own. No pattern can match a text in more ways than one, and no
repetition is without a bound.

What is found decides how long a pause is expected to last, and whether the context of a request
that has finished is kept. Tokens do not depend on it.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from vllm.config import ModelConfig
from vllm.tokenizers import cached_tokenizer_from_config

MOST_CALLS = 16
HEAD_TOKENS = 256
TAIL_TOKENS = 2048
NAME_TOKENS = 64
"""Read behind a marker: the name comes first."""
SEARCHED_TOKENS = 32_768
"""From the end; for marker tokens only, without decoding any."""
CHARACTERS_PER_TOKEN = 8
"""More than usual; a longer text is cut."""

_NAME = r"([^\s\"'<>\[\](){}:,=]{1,256})"
_TAGS = tuple(
    map(
        re.compile,
        (
            rf"<function={_NAME}",
            r'invoke name="([^"<>\n]{1,256})"',
            rf"<tool_call>\s{{0,8}}{_NAME}\s{{0,8}}<",
            rf"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?{_NAME}",
            rf"<\|tool_call_begin\|>\s{{0,8}}(?:functions\.)?{_NAME}",
            rf"\[TOOL_CALLS\]\s{{0,8}}{_NAME}\s{{0,8}}[\[{{]",
            rf"to=functions\.{_NAME}",
            rf"\bcall:{_NAME}\{{",
        ),
    )
)
_JSON_NAME = re.compile(r'"(?:tool_)?name"\s{0,8}:\s{0,8}"([^"\\\n]{1,256})"')
_JSON_DECODER = json.JSONDecoder()
_NAME_WITHIN = 512  # characters of a JSON object that is cut off
_FALSE_STARTS = 32  # braces that open no JSON object

_JSON_BEHIND = {  # the marker that opens calls, by vLLM's names of parsers; none if empty
    "caesura_cml": "[CALL]",
    "cohere_command3": "<|START_ACTION|>",
    "cohere_command4": "<|START_ACTION|>",
    "ernie45": "<tool_call>",
    "granite": "<|tool_call|>",
    "granite-20b-fc": "<function_call>",
    "granite4": "<tool_call>",
    "hermes": "<tool_call>",
    "hunyuan_a13b": "<tool_calls>",
    "internlm": "<|plugin|>",
    "jamba": "<tool_calls>",
    "llama3_json": "",
    "llama4_json": "",
    "longcat": "<longcat_tool_call>",
    "phi4_mini_json": "functools",
    "qwen3_json": "<tool_call>",
    "xlam": "",
}
_PYTHONIC_BEHIND = {
    "lfm2": "<|tool_call_start|>",
    "llama4_pythonic": "",
    "olmo3": "<function_calls>",
    "pythonic": "",
}
_TAGGED = {"deepseek_v3", "deepseek_v31", "deepseek_v32", "glm45", "glm47", "kimi_k2", "minimax_m2"}
_TAGGED |= {"mimo", "openai", "qwen3_coder", "qwen3_xml", "seed_oss", "step3", "step3p5"}
_TAG_MARKERS = (
    "<tool_call>",
    "<｜tool▁call▁begin｜>",
    "<|tool_call_begin|>",
    "[TOOL_CALLS]",
    "<minimax:tool_call>",
    "<seed:tool_call>",
    "<｜DSML｜function_calls>",
)

Names = Callable[[str], Iterator[str]]


def _tagged(text: str) -> Iterator[str]:
    for pattern in _TAGS:
        for found in pattern.finditer(text):
            yield found[1]


def _json_behind(marker: str) -> Names:
    def names(text: str) -> Iterator[str]:
        start = text.find(marker)
        if start >= 0:
            yield from _json_names(text, start + len(marker))

    return names


def _json_names(text: str, start: int) -> Iterator[str]:
    """Names of the objects from a position on, one behind the other or in a list."""
    for _ in range(_FALSE_STARTS):
        while (start := text.find("{", start)) >= 0:
            try:
                value, start = _JSON_DECODER.raw_decode(text, start)
            except (ValueError, RecursionError):
                break
            yield from _names_of(value)
        if start < 0:
            return
        found = _JSON_NAME.search(text, start, start + _NAME_WITHIN)
        if found is not None:  # the output was cut off in it, or it is not quite JSON
            yield found[1]
            return
        start += 1


def _names_of(value: dict[str, Any]) -> Iterator[str]:
    if isinstance(function := value.get("function"), dict):
        value = function
    name = value.get("name", value.get("tool_name"))
    if isinstance(name, str) and (len(value) == 1 or {"arguments", "parameters"} & value.keys()):
        yield name


def _pythonic_behind(marker: str) -> Names:
    def names(text: str) -> Iterator[str]:
        """Functions that are called at the outermost level."""
        start = text.find(marker)
        text = text[start + len(marker) :].lstrip() if start >= 0 else ""
        if not marker and not text.removeprefix("<|python_start|>").startswith("["):
            return
        depth, quote, name, escaped = 0, "", "", False
        for character in text:
            if quote:
                quote = quote if escaped or character != quote else ""
                escaped = character == "\\" and not escaped
            elif character in "\"'":
                quote = character
            elif character in "([{":
                if character == "(" and name and not depth:
                    yield name
                depth += character != "[" or depth > 0
            elif character in ")]}":
                depth = max(0, depth - 1)
            elif depth == 0:
                is_part = character.isalnum() or character in "._-"
                name = (name + character)[-256:] if is_part else ""
                continue
            name = ""

    return names


def _any_format(json_marker: str) -> Names:
    in_json = _json_behind(json_marker)
    return lambda text: iter(list(_tagged(text)) or in_json(text))


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    def get_added_vocab(self) -> dict[str, int]:
        """Tokens that are no pieces of usual text."""

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """The text of tokens."""


class ToolNames:
    """Finds the tools that outputs call.

    Args:
        tokenizer: the model's.
        parser_name: vLLM's name of the parser for the model's calls (`--tool-call-parser`). For one
            that is not known here, all formats are tried.
    """

    def __init__(self, tokenizer: Tokenizer, parser_name: str) -> None:
        self._tokenizer = tokenizer
        markers: tuple[str, ...] = _TAG_MARKERS
        if parser_name in _JSON_BEHIND:
            markers = (_JSON_BEHIND[parser_name],)
            self._names = _json_behind(*markers)
        elif parser_name in _PYTHONIC_BEHIND:
            markers = (_PYTHONIC_BEHIND[parser_name],)
            self._names = _pythonic_behind(*markers)
        elif parser_name in _TAGGED:
            self._names = _tagged
        else:
            self._names = _any_format("[TOOL_CALLS]" if parser_name == "mistral" else "")
        added = tokenizer.get_added_vocab()
        self._markers = {added[marker] for marker in markers if marker in added}

    def called(self, output: Sequence[int]) -> list[str]:
        """Names of tools that the output's tokens call, each once."""
        names: dict[str, None] = {}
        for piece in self._pieces(output):
            text = self._tokenizer.decode(list(piece), skip_special_tokens=False)
            for name in self._names(text[: CHARACTERS_PER_TOKEN * len(piece)]):
                if len(names) == MOST_CALLS:
                    break
                names[name] = None
        return list(names)

    def _pieces(self, output: Sequence[int]) -> Iterator[Sequence[int]]:
        """All of a short output; else its beginning, what follows markers, and its end."""
        tail = len(output) - TAIL_TOKENS
        if tail <= HEAD_TOKENS:
            yield output
            return
        yield output[:HEAD_TOKENS]
        start = max(HEAD_TOKENS, len(output) - SEARCHED_TOKENS)
        if self._markers:
            between = enumerate(output[start:tail], start)
            found = [position for position, token in between if token in self._markers]
            for position in found[-MOST_CALLS:]:
                yield output[position : position + NAME_TOKENS]
        yield output[tail:]


def tool_names(model_config: ModelConfig, parser_name: str | None) -> ToolNames | None:
    """What finds the tools that a model's outputs call; None if no parser is configured."""
    if parser_name is None:
        return None
    return ToolNames(cached_tokenizer_from_config(model_config), parser_name)
