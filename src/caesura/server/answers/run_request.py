"""The fields that OpenAI's routes accept in a request whose tools the server runs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from caesura.cml import AtEnd, Mode
from caesura.server.errors import ApiError
from caesura.server.sessions.schemas import LARGEST_INTEGER, MOST_TOKENS, Body, Names, Text
from caesura.session.records import (
    SAMPLED,
    AskedProtocol,
    Message,
    SampledFields,
    SessionSpec,
)


class CaesuraField(Body):
    """The body's field `caesura`."""

    tools: Names | Literal["all"] = Field(description="Which tools the model may call.")
    show_calls: bool = Field(False, description="Show calls and results beside the text.")
    function_calling: Mode | None = Field(
        None, description="What happens at a call; by default as the server's settings say."
    )
    protocol: AskedProtocol | None = Field(None, description="How the model is told of calls.")
    at_end: AtEnd | None = Field(
        None, description="Whether results that come after the answer are read."
    )


class RunRequest(Body, SampledFields):
    """What both routes have."""

    caesura: CaesuraField
    model: Text | None = None
    stream: bool = False
    metadata: dict[Text, Text] | None = None
    store: bool | None = None
    background: bool | None = None


Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None
Seed = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)] | None

# Said of a request, but without effect on what is generated.
WITHOUT_EFFECT = frozenset(
    {"user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
# What a field must be, since a session does nothing else.
FIXED: Mapping[str, tuple[JsonValue, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("auto",),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "logit_bias": ({},),
    "text": ({"format": {"type": "text"}}, {}),
    "truncation": ("disabled",),
    "include": ([],),
}


def parsed(form: TypeAdapter[Any], body: Mapping[str, JsonValue]) -> Any:
    """A request's body, checked.

    Raises:
        ApiError: something cannot be honoured; it is never ignored.
        RequestValidationError: something does not fit.
    """
    rest: dict[str, JsonValue] = {}
    for name, value in body.items():
        if value is None or name in WITHOUT_EFFECT:
            continue
        if name not in FIXED:
            rest[name] = value
        elif not any(value == allowed for allowed in FIXED[name]):
            raise ApiError(
                400,
                f"{name} cannot be changed for requests whose tools the server runs "
                "(caesura.tools): leave it out, or run the tools yourself",
                param=name,
                code="unsupported_parameter",
            )
    try:
        return form.validate_python(rest)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise RequestValidationError(
            [{**problem, "loc": ("body", *problem["loc"])} for problem in problems]
        ) from error


def run_spec(
    request: RunRequest, messages: list[Message], max_tokens: int | None, seed: int | None = None
) -> SessionSpec:
    """The session that answers a request."""
    fields: dict[str, Any] = {
        "model": request.model,
        "max_tokens": max_tokens,
        **{name: getattr(request, name) for name in SAMPLED},
        "metadata": request.metadata,
        "function_calling": request.caesura.function_calling,
        "protocol": request.caesura.protocol,
        "at_end": request.caesura.at_end,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return SessionSpec(messages=messages, seed=seed, keep_open=False, **given)
