"""Requests that vLLM would take long for are refused by what they say, not by their size."""

from typing import Any

import pytest

from caesura.server.definitions import (
    MOST_CHARACTERS,
    MOST_GRAMMAR_PARTS,
    MOST_MESSAGES,
    MOST_PARTS,
    MOST_PROPERTIES,
    MOST_SPELLED,
    MOST_TOOLS,
    MOST_WRITTEN_OUT,
    require_modest,
)
from caesura.server.errors import ApiError

HELLO = {"role": "user", "content": "hello"}


def refusal(body: Any, most_characters: int | None = None) -> tuple[str | None, str] | None:
    """Which field is refused, and why; None if nothing is."""
    try:
        require_modest(body, most_characters)
    except ApiError as error:
        return error.param, f"{error.status_code}: {error.detail}"
    return None


def tool(name: str = "look", parameters: Any = None) -> dict[str, Any]:
    """A tool in the form of Chat Completions."""
    return {"type": "function", "function": {"name": name, "parameters": parameters or {}}}


def string(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"q": {"type": "string", **keywords}}}


USUAL = [
    [],
    None,
    "text",
    {"messages": [HELLO], "tools": [tool(f"t{n}") for n in range(128)], "tool_choice": "required"},
    {
        "tools": [
            tool(parameters=string(pattern=r"^\d{4}-\d{2}-\d{2}T(\d{2}:){2}\d{2}(\.\d{1,6})?$"))
        ]
    },
    {"tools": [tool(parameters=string(pattern="^([0-9a-fA-F]{1,4}:){7,7}[0-9a-fA-F]{1,4}$"))]},
    {"tools": [tool(parameters=string(description="word " * 5000, maxLength=10**6))]},
    {"tools": [tool(parameters=string(enum=[f"country {n}" for n in range(250)]))]},
    {"input": "text", "text": {"format": {"type": "text"}}, "tools": []},
    {"text": "tokenize me"},
]


@pytest.mark.parametrize("body", USUAL)
def test_usual_requests_are_not_touched(body: Any) -> None:
    assert refusal(body, 10**6) is None


SCHEMAS: dict[str, Any] = {
    "choices": string(enum=["v" * 100 for _ in range(MOST_SPELLED // 100 + 1)]),
    "one value": string(const="v" * (MOST_SPELLED + 1)),
    "repetitions": string(pattern="(a|a?){60}b{9999}"),
    "repetitions of repetitions": string(pattern="((a{10}){10}b){10}"),
    "repetitions repeated": string(pattern="a{40}{40}"),
    "at most so many": string(pattern="a{0,1001}"),
    "a long pattern": string(pattern="ab" * (MOST_WRITTEN_OUT // 2 + 1)),
    "many patterns": {"anyOf": [{"pattern": "a{200}"}] * (MOST_WRITTEN_OUT // 200 + 1)},
    "properties": {"properties": {f"p{n}": {} for n in range(MOST_PROPERTIES + 1)}},
    "parts": {"anyOf": [{"type": "string"}] * (MOST_GRAMMAR_PARTS // 2)},
}
PLACES = {
    "chat": lambda schema: {"tools": [tool(parameters=schema)], "tool_choice": "required"},
    "one function": lambda schema: {
        "tools": [tool(parameters=schema)],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
    },
    "strict": lambda schema: {"tools": [{"function": {"strict": True, "parameters": schema}}]},
    "functions": lambda schema: {"functions": [{"parameters": schema}], "function_call": "x"},
    "responses": lambda schema: {"tools": [{"parameters": schema}], "tool_choice": "required"},
    "messages": lambda schema: {
        "tools": [{"input_schema": schema}],
        "tool_choice": {"type": "any"},
    },
    "response_format": lambda schema: {
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}
    },
    "structured_outputs": lambda schema: {"structured_outputs": {"json": schema}},
    "text": lambda schema: {"text": {"format": {"type": "json_schema", "schema": schema}}},
    "output_config": lambda schema: {"output_config": {"format": {"schema": schema}}},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_that_takes_long_is_refused_wherever_it_becomes_a_grammar(
    place: str, kind: str
) -> None:
    body = {"messages": [HELLO], **PLACES[place](SCHEMAS[kind])}
    refused = refusal(body)
    assert refused is not None
    assert refused[0] in body


def test_tools_that_the_model_only_reads_may_have_more() -> None:
    tools = [tool(parameters=SCHEMAS["parts"])]
    assert refusal({"tools": tools}) is None
    assert refusal({"tools": tools, "tool_choice": "auto"}) is None
    assert refusal({"tools": tools, "tool_choice": "required"}) is not None
    assert refusal({"tools": [tool(parameters={"anyOf": [{}] * MOST_PARTS})]}) is not None


@pytest.mark.parametrize(
    ("name", "fits", "too_much"),
    [
        ("tools", [tool()] * MOST_TOOLS, [tool()] * (MOST_TOOLS + 1)),
        ("functions", [tool()] * MOST_TOOLS, [tool()] * (MOST_TOOLS + 1)),
        ("messages", [HELLO] * MOST_MESSAGES, [HELLO] * (MOST_MESSAGES + 1)),
        ("input", [HELLO] * MOST_MESSAGES, [HELLO] * (MOST_MESSAGES + 1)),
        (
            "tools",
            [{"description": "x" * (MOST_CHARACTERS - 11)}],
            [{"description": "x" * (MOST_CHARACTERS - 10)}],
        ),
        (
            "response_format",
            {"pattern": f"a{{{MOST_WRITTEN_OUT}}}"},
            {"pattern": f"a{{{MOST_WRITTEN_OUT + 1}}}"},
        ),
        ("structured_outputs", {"choice": ["x"] * 3998}, {"choice": ["x"] * 3999}),
        ("structured_outputs", {"regex": "x" * 1000}, {"regex": "x" * 1001}),
        ("structured_outputs", {"grammar": "x" * 1000}, {"grammar": "x" * 1001}),
        (
            "response_format",
            {"properties": {str(n): {} for n in range(MOST_PROPERTIES)}},
            {"properties": {str(n): {} for n in range(MOST_PROPERTIES + 1)}},
        ),
        (
            "response_format",
            {"enum": ["x" * MOST_SPELLED]},
            {"enum": ["x" * MOST_SPELLED, "x"]},
        ),
    ],
)
def test_limits(name: str, fits: Any, too_much: Any) -> None:
    assert refusal({name: fits}) is None
    refused = refusal({name: too_much})
    assert refused is not None
    assert refused[0] == name


def test_what_cannot_fit_the_context_is_refused() -> None:
    half = {"role": "user", "content": [{"type": "text", "text": "x" * 41}]}
    assert refusal({"messages": [half, half]}, 100) is None  # with the type and role: 2 x 49
    assert refusal({"input": "x" * 100, "prompt": ["x" * 100]}, 100) is None
    for body in (
        {"messages": [half, half, {"content": "xxx"}]},
        {"input": "x" * 101},
        {"input": [half, half, half]},
        {"instructions": "x" * 101},
        {"prompt": "x" * 101},
        {"prompt": ["x", "x" * 101]},
        {"documents": [{"text": "x" * 101}]},
    ):
        refused = refusal(body, 100)
        assert refused is not None, body
        assert refused[0] == next(iter(body))
        assert refusal(body) is None


def test_pictures_and_separate_prompts_are_not_counted_together() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * 200}}
    sound = {"type": "input_audio", "input_audio": {"data": "x" * 200, "format": "wav"}}
    assert refusal({"messages": [{"role": "user", "content": [picture, sound]}]}, 100) is None
    assert refusal({"prompt": ["x" * 60] * 10}, 100) is None
    assert refusal({"input": ["x" * 60] * 10}, 100) is None
    assert refusal({"input": ["x" * 60] * (MOST_MESSAGES + 1)}, 100) is None
