"""The input of Responses as messages of a chat."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from caesura.server.sessions.schemas import MOST_MESSAGES, Text
from caesura.session.records import Message


class InputText(BaseModel):
    """A part of a message."""

    type: Literal["input_text", "output_text"]
    text: Text


class InputMessage(BaseModel):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[InputText], Field(fail_fast=True)]


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
    output: Text


InputItem = InputCall | InputResult | InputMessage
Input = (
    Text | Annotated[list[InputItem], Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES)]
)


def input_messages(instructions: str | None, given: str | list[InputItem]) -> list[Message]:
    """The same as messages; calls that follow each other are one message of the assistant."""
    messages: list[dict[str, Any]] = []
    if instructions is not None:
        messages.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    for item in given:
        match item:
            case InputMessage():
                messages.append({"role": item.role, "content": _text(item.content)})
            case InputResult():
                result = {"tool_call_id": item.call_id, "content": item.output}
                messages.append({"role": "tool", **result})
            case InputCall():
                if not messages or not messages[-1].get("tool_calls"):
                    messages.append({"role": "assistant", "content": "", "tool_calls": []})
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                messages[-1]["tool_calls"].append(call)
    return messages


def _text(content: str | list[InputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
