"""Items of the Responses API as JSON: kept a line each, and shown page by page."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from caesura.server.errors import ApiError

Json = dict[str, Any]


def plain_items(given: str | Iterable[Any]) -> list[Json]:
    """The input of a request, as vLLM has read it, as items of JSON.

    What vLLM left to be read once is read here: the request is not to be used any more.
    """
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return [_plain(item) for item in given]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(each) for each in value]
    return value


def as_lines(items: Iterable[Json]) -> str:
    """A line of ASCII for each item."""
    return "".join(f"{json.dumps(item, separators=(',', ':'))}\n" for item in items)


def array_of(lines: Iterable[str]) -> bytes:
    """The items of such lines as one array."""
    items = "".join(lines).removesuffix("\n").replace("\n", ",")
    return f"[{items}]".encode()


def of_lines(lines: str) -> list[Json]:
    """The items again."""
    return [json.loads(line) for line in lines.splitlines()]


def is_said(item: Json) -> bool:
    """Whether an item of an output says anything; a message without content does not."""
    return item.get("type") != "message" or bool(item.get("content"))


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for.

    Attributes:
        after: the id of the item before it; None for the beginning.
        limit: how many items.
        order: whether the newest come first.
    """

    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"

    def of(self, items: Sequence[Json]) -> Json:
        """The part of a list, as the API answers it.

        Raises:
            ApiError: there is no item of that id.
        """
        shown = [_shown(number, item) for number, item in enumerate(items)]
        if self.order == "desc":
            shown.reverse()
        start = 0
        if self.after is not None:
            ids = [item["id"] for item in shown]
            if self.after not in ids:
                raise ApiError(404, f"there is no item {self.after}", param="after")
            start = ids.index(self.after) + 1
        data = shown[start : start + self.limit]
        return {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(shown) > start + len(data),
        }


def _shown(number: int, item: Json) -> Json:
    """The item with an id, and with its text as a part of a message."""
    shown: Json = {"id": f"item_{number}", "type": "message"} | item
    if isinstance(content := shown.get("content"), str):
        kind = "output_text" if shown.get("role") == "assistant" else "input_text"
        shown["content"] = [{"type": kind, "text": content}]
    return shown
