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


def result_as_text(result: CallToolResult) -> str:
    """The texts of a result; what is not text is described, and structured content is JSON.

    Servers send structured content as text too, so it is used only where there is no text.
    """
    has_text = any(isinstance(block, TextContent) for block in result.content)
    parts = [_block_as_text(block) for block in result.content]
    if not has_text and result.structured_content is not None:
        parts.insert(0, json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(parts)


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
