"""Names of called tools, found without vLLM's parsers and in bounded time."""

import importlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tool_parsers import ToolParserManager

from caesura.engine.model.tool_names import (
    CHARACTERS_PER_TOKEN,
    HEAD_TOKENS,
    MOST_CALLS,
    NAME_TOKENS,
    TAIL_TOKENS,
    ToolNames,
)

MARKERS = (
    "<tool_call>",
    "</tool_call>",
    "<tool_calls>",
    "</tool_calls>",
    "<|python_tag|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_end|>",
    "<|tool_call_argument_begin|>",
    "[TOOL_CALLS]",
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "[CALL]",
    "[TRAP]",
    "[HEAD]",
    "[END]",
    "[INTR]",
)
FIRST_MARKER = 0x110000


class Characters:
    """A tokenizer of characters and markers that counts what it decodes."""

    def __init__(self) -> None:
        self.decoded = 0

    def get_added_vocab(self) -> dict[str, int]:
        return {marker: FIRST_MARKER + number for number, marker in enumerate(MARKERS)}

    get_vocab = get_added_vocab

    def encode(self, text: str, **options: object) -> list[int]:
        tokens: list[int] = []
        while text:
            marker = next((m for m in MARKERS if text.startswith(m)), None)
            tokens.append(ord(text[0]) if marker is None else self.get_added_vocab()[marker])
            text = text[len(marker or text[0]) :]
        return tokens

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        self.decoded += len(ids)
        return "".join(chr(i) if i < FIRST_MARKER else MARKERS[i - FIRST_MARKER] for i in ids)


CALLS = {
    "hermes": [
        'I look.\n<tool_call>\n{"name": "search", "arguments": {"name": "Ann", "n": {"a": 1}}}\n'
        '</tool_call>\n<tool_call>\n{"arguments": {"x": "{\\"name\\": 1}"}, "name": "write"}'
        "\n</tool_call>",
        '{"name": "search", "arguments": {}} is JSON and no call',
        "",
    ],
    "llama3_json": [
        '{"name": "search", "parameters": {"query": {"name": "x"}}}',
        '<|python_tag|>{"name": "search", "parameters": {}}; {"name": "write", "parameters": {}}',
        "no call at all",
    ],
    "granite4": ['<tool_call>\n{"name": "search", "arguments": {"a": 1}}\n</tool_call>', "words"],
    "jamba": ['<tool_calls>[{"name": "search", "arguments": {"a": 1}}]</tool_calls>', "words"],
    "pythonic": [
        '[search(query="a(b)[c]", n=[1, {"x": 2}]), write(path=\'\\\'[other()]\')]',
        "see search(1)",
    ],
    "llama4_pythonic": ['<|python_start|>[search(query="x")]<|python_end|>', "[1] is a reference"],
    "deepseek_v3": [
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>search\n```json\n"
        '{"query": "x"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        "words",
    ],
    "deepseek_v31": [
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>search<｜tool▁sep｜>{"name": "x"}'
        "<｜tool▁call▁end｜><｜tool▁call▁begin｜>write<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>",
        "words",
    ],
    "qwen3_coder": [
        "<tool_call>\n<function=search>\n<parameter=query>\nx = a[b]\n</parameter>\n</function>\n"
        "</tool_call>\n<tool_call>\n<function=write>\n</function>\n</tool_call>",
        "words",
    ],
    "glm45": [
        "Good.\n<tool_call>search\n<arg_key>query</arg_key>\n<arg_value>x</arg_value>\n</tool_call>",
        "<tool_call>write<arg_key>query</arg_key><arg_value>x</arg_value></tool_call>",
        "words",
    ],
    "kimi_k2": [
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.search:0"
        '<|tool_call_argument_begin|>{"query": "x"}<|tool_call_end|><|tool_calls_section_end|>',
        "words",
    ],
    "minimax_m2": [
        '<minimax:tool_call>\n<invoke name="search">\n<parameter name="query">x</parameter>\n'
        "</invoke>\n</minimax:tool_call>",
        "words",
    ],
    "caesura_cml": ['[CALL]a1[HEAD]{"name": "search", "arguments": {"q": 1}}[END]', "words"],
}
EXAMPLES = [(parser, text) for parser, texts in CALLS.items() for text in texts]


def named(parser: str, text: str) -> list[str]:
    tokenizer = Characters()
    return ToolNames(tokenizer, parser).called(tokenizer.encode(text))


def named_by_vllm(parser: str, text: str) -> list[str]:
    importlib.import_module("caesura.engine.model.cml_tool_parser")
    made = ToolParserManager.get_tool_parser(parser)(Characters(), None)
    request = ChatCompletionRequest(messages=[], model="", tools=TOOLS)
    return [call.function.name for call in made.extract_tool_calls(text, request).tool_calls]


TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("search", "write")
]


@pytest.mark.parametrize(("parser", "text"), EXAMPLES)
def test_the_names_are_those_that_vllms_parser_finds(parser: str, text: str) -> None:
    assert named(parser, text) == named_by_vllm(parser, text)


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        ("mistral", '[TOOL_CALLS]search[ARGS]{"query": "x"}[TOOL_CALLS]write{"name": "x"}'),
        ("mistral", '[TOOL_CALLS] [{"name": "search", "arguments": {}}, {"name": "write"}]'),
        ("openai", "<|channel|>commentary to=functions.search <|message|>{} to=functions.write"),
        ("deepseek_v32", '<｜DSML｜invoke name="search"> </> <｜DSML｜invoke name="write">'),
        ("gemma4", "<|tool_call>call:search{a:1}<tool_call|><|tool_call>call:write{}<tool_call|>"),
        ("a_plug_in", '<my_call>{"name": "search", "arguments": {}}{"name": "write"}'),
        (
            "a_plug_in",
            '<my_call>{"type": "function", "function": {"name": "search"}} {"name": "write"}',
        ),
        ("hermes", '<tool_call>{"name": "search"}</tool_call><tool_call>{"name": "write", "argu'),
    ],
)
def test_formats_that_vllm_reads_otherwise_or_not_at_all(parser: str, text: str) -> None:
    assert named(parser, text) == ["search", "write"]


@pytest.mark.parametrize("parser", [*CALLS, "mistral", "openai", "a_plug_in"])
def test_a_long_output_is_looked_at_in_a_bounded_part(parser: str) -> None:
    tokenizer = Characters()
    names = ToolNames(tokenizer, parser)
    for text in (
        '<tool_call>{"name": "x", "arguments": {"a": "',
        "<tool_call>\n<function=",
        "[a(b=[",
        '{"name": ',
        "{{{",
        "\\\"'",
        "<｜tool▁call▁begin｜>",
    ):
        tokens = tokenizer.encode(text * 200)
        names.called(tokens * (200_000 // len(tokens)))
        bound = HEAD_TOKENS + TAIL_TOKENS + MOST_CALLS * NAME_TOKENS
        assert tokenizer.decoded <= bound
        tokenizer.decoded = 0


class LongTokens(Characters):
    """Each token is a line."""

    longest = 0

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return "<function=a" * 100 * len(ids)


def test_tokens_of_long_texts_are_cut() -> None:
    names = ToolNames(LongTokens(), "qwen3_coder")
    seen: list[int] = []
    names._names = lambda text: seen.append(len(text)) or iter(())  # type: ignore[assignment]
    names.called([1] * 100_000)
    assert sum(seen) <= CHARACTERS_PER_TOKEN * (HEAD_TOKENS + TAIL_TOKENS)


@pytest.mark.parametrize(
    ("parser", "opening"),
    [
        ("hermes", '<tool_call>\n{"name": "write", "arguments": {"text": "'),
        ("qwen3_coder", "<tool_call>\n<function=write>\n<parameter=text>\n"),
        ("glm45", "<tool_call>write\n<arg_key>text</arg_key>\n<arg_value>"),
        ("deepseek_v31", '<｜tool▁call▁begin｜>write<｜tool▁sep｜>{"text": "'),
        ("kimi_k2", "<|tool_call_begin|>functions.write:0<|tool_call_argument_begin|>"),
    ],
)
def test_the_name_of_a_call_with_long_arguments_is_found_behind_its_marker(
    parser: str, opening: str
) -> None:
    thought = "I think. " * 100
    assert named(parser, thought + opening + "words and words " * 1000) == ["write"]


@pytest.mark.parametrize(
    ("parser", "opening"),
    [("pythonic", "[write(text='"), ("llama3_json", '{"name": "write", "parameters": {"t": "')],
)
def test_a_format_without_markers_has_its_names_at_the_start(parser: str, opening: str) -> None:
    assert named(parser, opening + "words and words " * 1000) == ["write"]


@pytest.mark.parametrize("parser", [*CALLS, "mistral", "a_plug_in"])
@given(
    text=st.lists(
        st.sampled_from(['{"name": "', "<tool_call>", "[", "(", '"', "\\", "a", "}"])
    ).map("".join)
)
def test_no_text_is_too_odd(parser: str, text: str) -> None:
    assert len(named(parser, text)) <= MOST_CALLS


def test_no_more_than_some_calls_are_named() -> None:
    text = "".join(
        f'<tool_call>{{"name": "t{n}", "arguments": {{}}}}</tool_call>' for n in range(40)
    )
    assert named("hermes", text) == [f"t{n}" for n in range(MOST_CALLS)]
