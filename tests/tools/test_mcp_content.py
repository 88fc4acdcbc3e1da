from base64 import b64encode

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
        structured_content={"not": "repeated"},
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


def test_an_empty_result_is_an_empty_text() -> None:
    assert result_as_text(types.CallToolResult(content=[])) == ""
