"""The input of Responses as messages of a chat."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from caesura.server.sessions.schemas import (
    MOST_MESSAGES,
    Content,
    Part,
    Text,
    form_of,
    tag_of,
)
from caesura.session.records import Message


class InputMessage(BaseModel):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class InputCall(BaseModel):
    """A call that the model has made."""

    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text


class InputResult(BaseModel):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: Text
    output: Content


class ReasoningText(BaseModel):
    """A part of the model's reasoning."""

    type: Literal["reasoning_text"]
    text: Text


class InputReasoning(BaseModel):
    """What the model thought before it answered or called.

    A summary is not what it thought, and nobody here can read what another server encrypted: the
    conversation goes on without.
    """

    type: Literal["reasoning"]
    content: list[ReasoningText] | None = None


def _kind(item: Any) -> str:
    """Messages need no type."""
    typed = not isinstance(item, dict) or "type" in item
    return tag_of(item) if typed else "[message]"


InputItem = Annotated[
    Annotated[InputMessage, Tag("[message]")]
    | Annotated[InputCall, Tag("[function_call]")]
    | Annotated[InputResult, Tag("[function_call_output]")]
    | Annotated[InputReasoning, Tag("[reasoning]")],
    Discriminator(
        _kind,
        custom_error_type="unsupported_item",
        custom_error_message="sessions take items of type message, reasoning, function_call and "
        "function_call_output",
    ),
]
Input = Annotated[
    Annotated[Text, Tag("[text]")]
    | Annotated[
        list[InputItem],
        Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES),
        Tag("[list]"),
    ],
    Discriminator(form_of),
]

_BETWEEN_TEXTS = "\n\n"


def input_messages(instructions: str | None, given: str | list[InputItem]) -> list[Message]:
    """The same as messages; what the model wrote until a result came is one message of it."""
    messages: list[dict[str, Any]] = []
    if instructions is not None:
        messages.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    for item in given:
        match item:
            case InputMessage(role="assistant"):
                _add_text(_written(messages), "content", "".join(_texts(item.content)))
            case InputMessage():
                messages.append({"role": item.role, "content": _content(item.content)})
            case InputResult():
                result = {"tool_call_id": item.call_id, "content": _content(item.output)}
                messages.append({"role": "tool", **result})
            case InputReasoning():
                thought = "".join(part.text for part in item.content or ())
                if thought:
                    _add_text(_written(messages), "reasoning", thought)
            case InputCall():
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                _written(messages).setdefault("tool_calls", []).append(call)
    return messages


def _written(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the model is writing; a new one behind any other."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _add_text(message: dict[str, Any], field: str, text: str) -> None:
    before = message.get(field)
    message[field] = f"{before}{_BETWEEN_TEXTS}{text}" if before and text else before or text


def _texts(content: str | list[Part]) -> list[str]:
    return [content] if isinstance(content, str) else [part.text for part in content]


def _content(content: str | list[Part]) -> Any:
    """As a chat message has it: a text, or the texts of several parts."""
    texts = _texts(content)
    if len(texts) > 1:
        return [{"type": "text", "text": text} for text in texts]
    return texts[0] if texts else ""
