"""Answers to questions, from what somebody types."""

import json

from pydantic import JsonValue

from caesura.chat.quoting import who
from caesura.chat.records import ApprovalView, GivenAnswer
from caesura.console import visible

REFUSE = "/no"
_YES, _NO = frozenset({"y", "yes"}), frozenset({"n", "no"})
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_LONGEST_EXAMPLE = 100


def advice(asked: ApprovalView) -> str:
    """Once more what is decided on, and how to answer."""
    if asked.kind == "approval":
        return f"Run {who(asked)}? y, or n and a reason"
    if asked.choices:
        wanted = "a number"
    else:
        wanted = "your answer" if asked.kind == "question" else _data_wanted(asked.json_schema)
    return f"{who(asked)}: {wanted}, or {REFUSE} and a reason"


def read_answer(asked: ApprovalView, line: str) -> GivenAnswer:
    """The answer that a line gives.

    Raises:
        ValueError: the line is no answer; the message says what would be.
    """
    word, _, rest = line.strip().partition(" ")
    reason = rest.strip() or None
    if word == REFUSE:
        return GivenAnswer(accepted=False, reason=reason)
    if asked.kind == "approval":
        return _decision(word.rstrip(",:").lower(), reason)
    if asked.kind == "input":
        return GivenAnswer(accepted=True, content=_data(line))
    return GivenAnswer(accepted=True, text=_choice(asked.choices, line.strip()))


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
        raise ValueError(f"this is not JSON: {error}") from None
    return value


def _data_wanted(schema: dict[str, JsonValue] | None) -> str:
    if schema is None:
        return "any JSON, such as {}, to agree"
    fields = schema.get("properties")
    if isinstance(fields, dict) and fields:
        example = f"JSON such as {{{', '.join(_field(*field) for field in fields.items())}}}"
        if len(example) <= _LONGEST_EXAMPLE:
            return example
    return "JSON that fits the schema"


def _field(name: str, field: JsonValue) -> str:
    kind = field.get("type") if isinstance(field, dict) else None
    return f"{visible(json.dumps(name, ensure_ascii=False))}: {kind if kind in _TYPES else 'any'}"
