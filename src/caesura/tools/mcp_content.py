"""Results of MCP tools as text."""

import json
from collections.abc import Iterator

from mcp_types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import JsonValue


def result_as_text(result: CallToolResult) -> str:
    """The texts of a result; what is not text is described, and structured content is JSON.

    Most servers send structured content as text too: then it is not repeated.
    """
    parts = [_block_as_text(block) for block in result.content]
    structured = result.structured_content
    if structured is not None and not _is_told(structured, result.content):
        parts.append(json.dumps(structured, ensure_ascii=False))
    return "\n".join(filter(None, parts))


def _is_told(structured: JsonValue, content: list[ContentBlock]) -> bool:
    """Whether the texts of a result say what its structured content does."""
    texts = [block.text for block in content if isinstance(block, TextContent)]
    values = [_parsed(text) for text in texts]
    meant = [structured]
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        meant.append(structured["result"])  # how SDKs wrap what is no object
    return any(value in meant for value in (values, texts, *values, *texts))


def _parsed(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value


def _block_as_text(block: ContentBlock) -> str:
    match block:
        case TextContent():
            return block.text
        case ImageContent():
            return _described("image", block.mime_type, len(block.data) * 3 // 4)
        case AudioContent():
            return _described("audio", block.mime_type, len(block.data) * 3 // 4)
        case ResourceLink():
            return "[" + ", ".join(_link_parts(block)) + "]"
        case EmbeddedResource():
            resource = block.resource
            if isinstance(resource, TextResourceContents):
                return resource.text
            size = len(resource.blob) * 3 // 4
            return _described(f"resource {resource.uri}", resource.mime_type, size)


def _described(kind: str, media_type: str | None, size_bytes: int) -> str:
    return f"[{kind}, {media_type or 'unknown type'}, {size_bytes} bytes]"


def _link_parts(link: ResourceLink) -> Iterator[str]:
    yield f"resource {link.uri}"
    yield link.name
    if link.description:
        yield link.description
