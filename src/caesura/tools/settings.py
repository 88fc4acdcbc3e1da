"""The settings of tools, as they are written in the configuration file."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from caesura.tools.environment import EnvironmentTemplate, EnvironmentText
from caesura.units import parse_size

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

ToolName = Annotated[str, Field(pattern=f"^{TOOL_NAME.pattern}$")]
HeaderName = Annotated[str, Field(pattern=f"^{_HEADER_NAME.pattern}$")]
Schema = dict[str, JsonValue]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CallSettings(_Settings):
    """How calls are run."""

    timeout_seconds: float = Field(
        default=60,
        ge=0,
        description="Longest time of an attempt without a report of progress; 0 for no limit. "
        "Waiting for a free slot or for a human does not count.",
    )
    longest_seconds: float = Field(
        default=3600,
        ge=0,
        description="Longest time of an attempt that reports progress; 0 for no limit.",
    )
    idempotent: bool = Field(
        default=False,
        description="Running it twice does no harm. Others are never repeated, also not after "
        "a crash.",
    )
    retries: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Further attempts after a transient failure: the connection, status 429 or "
        "5xx, a timeout. Needs `idempotent = true`.",
    )
    retry_backoff_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Wait before the first retry; doubles with each, and is shortened at random "
        "by up to half. `Retry-After` is obeyed.",
    )
    max_result_bytes: int = Field(
        default=64 * 2**10,
        ge=256,
        description="Longer results are cut, with a note that says so. Bytes, or a size such as "
        '`"64KiB"`.',
    )
    cache_seconds: float = Field(
        default=0,
        ge=0,
        description="How long a result serves identical calls of the same owner (API key); 0 for "
        "not at all. "
        "For pure tools; needs `idempotent = true`. Not for what a human answers or approves, nor "
        "for a sequence with such a step.",
    )
    cache_shared: bool = Field(
        default=False,
        description="Kept results serve all owners, who can tell from it that somebody made the "
        "same call.",
    )
    expected_seconds: float | None = Field(
        default=None,
        gt=0,
        description="How long a call takes, as a first estimate for the scheduler.",
    )
    at_end: Literal["wait", "finish", "cancel"] = Field(
        default="wait",
        description="A call that is under way when the model of an asynchronous session ends its "
        "answer: `wait`, the model reads the result and goes on; `finish`, it is completed without "
        "the model; `cancel`, it is cancelled.",
    )
    approve: bool | Literal["operator"] = Field(
        default=False,
        description="A human must approve each call before it runs: the owner of the session; "
        'with `"operator"`, somebody else, whose API key has `may_approve`.',
    )

    @field_validator("max_result_bytes", mode="before")
    @classmethod
    def _parse_size(cls, value: object) -> object:
        return parse_size(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_repetition(self) -> Self:
        if self.retries and not self._may_repeat():
            raise ValueError("retries needs idempotent = true: only such calls may be repeated")
        if self.cache_seconds and not self._may_repeat():
            raise ValueError("cache_seconds needs idempotent = true: only such calls are pure")
        if self.cache_seconds and self.approve:
            raise ValueError(
                "cache_seconds cannot go with approve: a cached result is approved by nobody; "
                "remove one of them"
            )
        return self

    def _may_repeat(self) -> bool:
        return self.idempotent


class CommonSettings(CallSettings):
    """What every tool has."""

    description: str | None = Field(
        default=None, description="What the tool does, for the model. Some types have a default."
    )
    max_concurrency: int | None = Field(
        default=None, ge=1, description="Attempts at the same time, over all sessions."
    )


class PythonTool(CommonSettings):
    """A Python function, run in the server's process."""

    type: Literal["python"]
    callable: str = Field(
        pattern=r"^[\w.]+:\w+$",
        description="`module:function`; modules beside the configuration file are found too. "
        "Parameters, their types and descriptions come from its signature and docstring; one "
        "annotated with `CallContext` receives the call's context. Functions that are not "
        "`async` run in threads.",
    )


class HttpTool(CommonSettings):
    """A request to an HTTP server."""

    type: Literal["http"]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="GET", description="The request's method."
    )
    url: str = Field(
        description="The address. `{argument}` in its path or query is replaced by the "
        "argument's value, encoded; `{{` and `}}` are braces. Only its own host is followed in "
        "redirects."
    )
    headers: dict[HeaderName, EnvironmentTemplate] = Field(
        default_factory=dict,
        description="Headers. `{argument}` is replaced; `${NAME}` comes from the environment.",
    )
    query: dict[str, EnvironmentTemplate] = Field(
        default_factory=dict,
        description="Query values, like `headers`. One whose argument is not given is left out.",
    )
    json_body: JsonValue = Field(
        default=None,
        alias="json",
        description="The body: JSON in which a text that is only `{argument}` is replaced by its "
        "value. Without it, arguments not used elsewhere are the body as a JSON object (POST, "
        "PUT, PATCH) or go into the query (GET, HEAD, DELETE).",
    )
    parameters: Schema = Field(
        default_factory=dict,
        description="JSON schema of the arguments; others are refused unless it says "
        "`additionalProperties`.",
    )


class ModelTool(CommonSettings):
    """Another model, at any OpenAI-compatible endpoint; this server included."""

    type: Literal["model"]
    base_url: str = Field(description="The endpoint, such as `http://localhost:8000/v1`.")
    model: str = Field(description="The model's name there.")
    api_key: EnvironmentText | None = Field(
        default=None, description="Its key; `${NAME}` comes from the environment."
    )
    system: str | None = Field(default=None, description="The system prompt.")
    temperature: float | None = Field(default=None, ge=0, description="Sampling temperature.")
    max_tokens: int | None = Field(default=None, ge=1, description="Longest answer, in tokens.")


class HumanTool(CommonSettings):
    """A question to a human. It waits without a limit by default."""

    type: Literal["human"]
    timeout_seconds: float = Field(
        default=0, ge=0, description="How long to wait for the answer; 0 for no limit."
    )

    @field_validator("cache_seconds")
    @classmethod
    def _check_not_cached(cls, seconds: float) -> float:
        if seconds:
            raise ValueError(
                "a human's answer is not kept: others would be given it; remove cache_seconds"
            )
        return seconds

    def _may_repeat(self) -> bool:
        return True


class SequenceStep(_Settings):
    """One step of a sequence."""

    tool: ToolName = Field(description="The tool.")
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Its arguments. `{argument}` is the sequence's argument, "
        "`{steps[0].results[0].url}` a part of an earlier step's JSON result; a text that is "
        "only that keeps the value's type.",
    )


class SequenceTool(CommonSettings):
    """Calls run one after the other for one call of the model."""

    type: Literal["sequence"]
    steps: list[SequenceStep] = Field(min_length=1, description="The calls, in order.")
    parameters: Schema = Field(
        default_factory=dict, description="JSON schema of the arguments, as for `http`."
    )
    result: Literal["last", "all"] = Field(
        default="last", description="Whose result it gives: the last step's, or a list of all."
    )
    timeout_seconds: float = Field(
        default=0, ge=0, description="Longest time of all steps; 0 for no limit beyond theirs."
    )


class McpServerSettings(CallSettings):
    """A server of the Model Context Protocol, and all its tools.

    It is a process (`command`) or an address (`url`). A server that dies or is not there yet is
    started or connected again; calls that were under way fail. What is set here of `[tools.NAME]`,
    such as `approve`, goes for each of its tools that has no other setting.
    """

    command: str | None = Field(default=None, description="The program to start (stdio).")
    args: list[str] = Field(default_factory=list, description="Its arguments.")
    env: dict[str, EnvironmentText] = Field(
        default_factory=dict,
        description="Its environment, beside `PATH`, `HOME` and the like; `${NAME}` comes from "
        "the environment.",
    )
    url: str | None = Field(default=None, description="The address (streamable HTTP).")
    headers: dict[HeaderName, EnvironmentText] = Field(
        default_factory=dict, description="Headers; `${NAME}` comes from the environment."
    )
    prefix: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]*$",
        description="Put before its tools' names; `NAME_` by default. A name with other characters "
        "than `A-Z a-z 0-9 _ -`, or with more than 64, gets a digest of itself at its end.",
    )
    tools: list[str] | None = Field(
        default=None,
        description="The tools to offer, by the names that the model sees or by their names there; "
        "all by default.",
    )
    settings: dict[str, CommonSettings] = Field(
        default_factory=dict,
        description="Settings of single tools, by the names that the model sees or by their names "
        "there: those that every tool has.",
    )
    follow_changes: bool = Field(
        default=False,
        description="Offer tools that are added or changed while Caesura runs. Else a tool is "
        "offered only as long as its name, description and parameters are those of the first list; "
        "changes are logged.",
    )
    required: bool = Field(
        default=False,
        description="Do not start without it. Else a server that cannot be reached at start is "
        "logged, and its tools are offered as soon as it can be.",
    )
    connect_timeout_seconds: float = Field(
        default=30,
        gt=0,
        description="Longest time to connect; also how long a call waits for a lost server.",
    )
    max_concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Calls at the same time over all its tools. Servers of protocol versions "
        "before 2026-07-28 that ask the user need 1, since a question there does not say which "
        "call it belongs to.",
    )

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, data: Any) -> Any:
        """What is set for all tools, to those with settings of their own."""
        if not isinstance(data, dict) or not isinstance(data.get("settings"), dict):
            return data
        common = {key: data[key] for key in CallSettings.model_fields if key in data}
        own = data["settings"]
        return data | {
            "settings": {
                tool: common | own[tool] if isinstance(own[tool], dict) else own[tool]
                for tool in own
            }
        }

    def common(self) -> CommonSettings:
        """The settings of a tool that has none of its own."""
        return CommonSettings(**{key: getattr(self, key) for key in CallSettings.model_fields})

    def prefix_of(self, server: str) -> str:
        """What the names of its tools begin with."""
        return f"{server}_" if self.prefix is None else self.prefix

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either command (a process) or url (streamable HTTP)")
        if self.command is None and (self.args or self.env):
            raise ValueError("args and env go with command; remove them or give command")
        if self.url is None and self.headers:
            raise ValueError("headers go with url; remove them or give url")
        return self


ToolSettings = Annotated[
    PythonTool | HttpTool | ModelTool | HumanTool | SequenceTool, Field(discriminator="type")
]


class Settings(_Settings):
    """The whole configuration file, as far as tools go."""

    tools: dict[ToolName, ToolSettings] = Field(
        default_factory=dict, description="Tools by name: `[tools.NAME]`."
    )
    mcp: dict[ToolName, McpServerSettings] = Field(
        default_factory=dict, description="MCP servers by name: `[mcp.NAME]`."
    )
