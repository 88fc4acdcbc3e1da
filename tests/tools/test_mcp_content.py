from base64 import b64encode
from typing import Any

import pytest
from mcp import types

from caesura.tools.mcp_content import result_as_text

DATA = b64encode(bytes(30)).decode()


def test_texts_stay_and_all_else_is_described() -> None:
    result = types.CallToolResult(
        content=[
            types.TextContent(text="first"),
            types.ImageContent(data=DATA, mime_type="image/png"),
            types.AudioContent(data=DATA, mime_type="audio/wav"),
            types.ResourceLink(name="notes", uri="file:///notes", description="of today"),
            types.EmbeddedResource(
                resource=types.TextResourceContents(uri="file:///a", text="last")
            ),
            types.EmbeddedResource(resource=types.BlobResourceContents(uri="file:///b", blob=DATA)),
        ],
    )
    assert result_as_text(result).splitlines() == [
        "first",
        "[image, image/png, 30 bytes]",
        "[audio, audio/wav, 30 bytes]",
        "[resource file:///notes, notes, of today]",
        "last",
        "[resource file:///b, unknown type, 30 bytes]",
    ]


def test_structured_content_is_json_where_there_is_no_text() -> None:
    result = types.CallToolResult(content=[], structured_content={"total": 3, "é": None})
    assert result_as_text(result) == '{"total": 3, "é": null}'


@pytest.mark.parametrize(
    ("texts", "structured", "shown"),
    [
        ([""], {"rows": [1, 2]}, '{"rows": [1, 2]}'),
        (["2 rows"], {"rows": [1, 2]}, '2 rows\n{"rows": [1, 2]}'),
        (['{"rows":  [1, 2]}'], {"rows": [1, 2]}, '{"rows":  [1, 2]}'),
        (["hello"], {"result": "hello"}, "hello"),
        (["3"], {"result": 3}, "3"),
        (["1", "2"], {"result": [1, 2]}, "1\n2"),
        (["a", "b"], {"result": ["a", "b"]}, "a\nb"),
        (["[" * 100_000], {"a": 1}, "[" * 100_000 + '\n{"a": 1}'),
    ],
)
def test_structured_content_is_shown_unless_the_texts_say_it(
    texts: list[str], structured: dict[str, Any], shown: str
) -> None:
    blocks: list[types.ContentBlock] = [types.TextContent(text=text) for text in texts]
    result = types.CallToolResult(content=blocks, structured_content=structured)
    assert result_as_text(result) == shown


def test_an_empty_result_is_an_empty_text() -> None:
    assert result_as_text(types.CallToolResult(content=[])) == ""
