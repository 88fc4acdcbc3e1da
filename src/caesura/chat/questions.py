"""Answers to questions, from what somebody types."""

import json
from collections.abc import Mapping

from pydantic import JsonValue

from caesura.chat.records import ApprovalView, GivenAnswer
from caesura.chat.texts import as_name

REFUSE = "/no"
_YES, _NO = frozenset({"y", "yes"}), frozenset({"n", "no"})


def question_text(approval: ApprovalView) -> str:
    """What is asked. Nothing is cut: somebody is to decide on it."""
    if approval.kind == "approval":
        return f"May {call_text(approval.tool, approval.arguments)} run?"
    return f"{as_name(approval.tool)} asks: {approval.text}"


def call_text(name: str, arguments: Mapping[str, JsonValue]) -> str:
    """A call as a programmer would write it, in one line of which each part is what it seems."""
    shown = ", ".join(f"{as_name(key)}={value!r}" for key, value in arguments.items())
    return f"{as_name(name)}({shown})"


def advice(approval: ApprovalView) -> str:
    """How to answer."""
    if approval.kind == "approval":
        return "y, or n and a reason"
    if approval.choices:
        return f"a number, or {REFUSE} and a reason"
    if approval.kind == "input":
        return f"{_wanted(approval.json_schema)}, or {REFUSE} and a reason"
    return f"your answer, or {REFUSE} and a reason"


def read_answer(approval: ApprovalView, line: str) -> GivenAnswer:
    """The answer that a line gives.

    Raises:
        ValueError: it is none; says what would be.
    """
    word, _, rest = line.strip().partition(" ")
    reason = rest.strip() or None
    if word == REFUSE:
        return GivenAnswer(accepted=False, reason=reason)
    if approval.kind == "approval":
        return _decision(word.rstrip(",:").lower(), reason)
    if approval.kind == "input":
        return GivenAnswer(accepted=True, content=_data(line))
    return GivenAnswer(accepted=True, text=_choice(approval.choices, line.strip()))


def is_decision(line: str) -> bool:
    """Whether a line says yes or no and nothing else."""
    return line.strip().lower() in _YES | _NO


def _decision(word: str, reason: str | None) -> GivenAnswer:
    if word in _YES and reason is None:
        return GivenAnswer(accepted=True)
    if word in _NO:
        return GivenAnswer(accepted=False, reason=reason)
    raise ValueError("answer y, or n and a reason")


def _choice(choices: tuple[str, ...], text: str) -> str:
    if not text:
        raise ValueError("the answer is empty")
    if not choices or text in choices:
        return text
    if text.isdecimal() and 1 <= int(text) <= len(choices):
        return choices[int(text) - 1]
    raise ValueError(f"answer with a number from 1 to {len(choices)}")


def _data(line: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(line)
    except ValueError as error:
        raise ValueError(f"that is not JSON: {error}") from None
    return value


def _wanted(schema: dict[str, JsonValue] | None) -> str:
    """The data that fit a schema, in short."""
    fields = (schema or {}).get("properties")
    if not isinstance(fields, dict):
        return "JSON" if schema is None else f"JSON of {json.dumps(schema)}"
    shown = [
        f'"{name}": {field.get("type", "any")}' if isinstance(field, dict) else f'"{name}": any'
        for name, field in fields.items()
    ]
    return f"JSON such as {{{', '.join(shown)}}}"
