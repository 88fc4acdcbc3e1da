"""What a client sends on its socket: events of three kinds, checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from caesura.server.errors import ApiError

Json = dict[str, Any]

MOST_STEERED_ITEMS = 100
_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")
# What a socket decides by itself.
_OF_THE_SOCKET = ("type", "stream_id", "stream", "generate", "background", "previous_response_id")


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _UserMessage(_Form):
    type: Literal["message"] = "message"
    role: Literal["user"]
    content: str | list[Json]


class _ToolOutput(BaseModel):
    """Its other fields are as they are in any request."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: str
    output: str | list[Json]


def _form_of(item: Any) -> str:
    kind = item.get("type", "message") if isinstance(item, Mapping) else "message"
    return "[message]" if kind == "message" else "[output]"


_Item = Annotated[
    Annotated[_UserMessage, Tag("[message]")] | Annotated[_ToolOutput, Tag("[output]")],
    Discriminator(_form_of),
]


class _SteerForm(_Form):
    type: Literal["response.steer"]
    previous_response_id: str
    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[_Item], Field(min_length=1, max_length=MOST_STEERED_ITEMS)]
    )


class _InjectForm(_Form):
    type: Literal["response.inject"]
    response_id: str
    input: Annotated[list[_ToolOutput], Field(min_length=1, max_length=MOST_STEERED_ITEMS)]


_STEER = TypeAdapter(_SteerForm)
_INJECT = TypeAdapter(_InjectForm)


@dataclass(frozen=True, slots=True)
class Create:
    """`response.create`: one more response.

    Attributes:
        body: the fields of `POST /v1/responses`, without those that the socket decides.
        stream_id: the lane; None for the one without a name.
        previous: the response that it continues.
        generates: whether anything is to be written; else its prompt is only computed.
    """

    body: Json
    stream_id: str | None = None
    previous: str | None = None
    generates: bool = True


@dataclass(frozen=True, slots=True)
class Steer:
    """`response.steer`: more input for a response that is being written.

    Attributes:
        target: the response.
        input: as it was sent.
        items: the same as items; empty where it cannot be taken.
        problem: why not.
    """

    target: str
    input: object
    items: tuple[Json, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Inject:
    """`response.inject`: results of calls for a response that is being written.

    Attributes:
        target: the response.
        input: as it was sent.
        items: the same, checked; empty where it cannot be taken.
        problem: why not.
    """

    target: str
    input: object
    items: tuple[Json, ...] = ()
    problem: str | None = None


def read_event(value: object) -> Create | Steer | Inject:
    """One event.

    Args:
        value: of a message.

    Raises:
        ApiError: it is none of the three, or a response cannot be made of it.
    """
    if not isinstance(value, dict):
        raise ApiError(400, "send a JSON object with a type", code="invalid_event")
    match value.get("type"):
        case "response.create":
            return _create(value)
        case "response.steer":
            return _steer(value)
        case "response.inject":
            return _inject(value)
    raise ApiError(
        400,
        "type is response.create, response.steer or response.inject",
        param="type",
        code="invalid_event",
    )


def items_of(given: object) -> list[Json]:
    """The input of a request as items; what is none is left to those who serve the request."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return list(given) if isinstance(given, list) else []


def stream_id_of(value: object) -> str | None:
    """The lane that a message names, if it can be one."""
    given = value.get("stream_id") if isinstance(value, dict) else None
    return given if isinstance(given, str) and _STREAM_ID.fullmatch(given) else None


def _create(value: Json) -> Create:
    if value.get("stream_id") is not None and stream_id_of(value) is None:
        raise ApiError(
            400,
            "stream_id is 1 to 256 of A-Z, a-z, 0-9, _, . and -",
            param="stream_id",
            code="invalid_stream_id",
        )
    if value.get("background"):
        raise ApiError(
            400,
            "a socket has no background responses: send POST /v1/responses",
            param="background",
            code="unsupported_parameter",
        )
    previous = value.get("previous_response_id")
    if previous is not None and not isinstance(previous, str):
        raise ApiError(400, "previous_response_id is a text", param="previous_response_id")
    caching = value.get("prompt_cache_options")
    prewarms = isinstance(caching, dict) and caching.get("prewarm") is True
    body = {name: field for name, field in value.items() if name not in _OF_THE_SOCKET}
    generates = value.get("generate") is not False and not prewarms
    return Create(body, stream_id_of(value), previous, generates)


def _steer(value: Json) -> Steer:
    target, given = str(value.get("previous_response_id")), value.get("input")
    try:
        form: _SteerForm = _STEER.validate_python(value)
    except ValidationError as error:
        return Steer(target, given, problem=_described(error))
    items = form.input if isinstance(form.input, str) else [_dumped(item) for item in form.input]
    return Steer(target, given, tuple(items_of(items)))


def _inject(value: Json) -> Inject:
    target, given = str(value.get("response_id")), value.get("input")
    try:
        form: _InjectForm = _INJECT.validate_python(value)
    except ValidationError as error:
        return Inject(target, given, problem=_described(error))
    return Inject(target, given, tuple(map(_dumped, form.input)))


def _dumped(item: BaseModel) -> Json:
    return item.model_dump()


def _described(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(key) for key in first["loc"] if "[" not in str(key))
    return f"{path[:100]}: {first['msg']}" if path else str(first["msg"])
