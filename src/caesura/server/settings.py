"""The settings of the server, in the same configuration file as its tools."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from caesura.cml import Mode
from caesura.server.sessions.signatures import signing_key
from caesura.session.agents import Limits
from caesura.session.records import Protocol
from caesura.tools.configuration import Configuration, load_configuration
from caesura.tools.environment import EnvironmentText
from caesura.tools.settings import Settings
from caesura.units import parse_size

DATABASE_NAME = "caesura.db"
Size = Annotated[int, BeforeValidator(lambda v: parse_size(v) if isinstance(v, str) else v)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SessionsSection(_Section):
    """Where server-run sessions are kept, and how many of them."""

    database: Path = Field(
        default=Path(DATABASE_NAME),
        description="The SQLite file; a relative path begins at the configuration file.",
    )
    open_sessions_per_owner: int = Field(
        default=1000, ge=1, description="Sessions of one API key that have not ended, at most."
    )
    idle_seconds: float = Field(
        default=24 * 3600.0,
        gt=0,
        description="A session that waits for its user longer than this is ended.",
    )
    retention_seconds: float = Field(
        default=7 * 24 * 3600.0,
        ge=0,
        description="A session is forgotten this long after its end.",
    )
    database_size: Size = Field(
        default=4 * 2**30,
        ge=2**20,
        description="Past this size, sessions that have ended are forgotten earlier, the oldest "
        'first; if that is not enough, no new ones are made. Bytes, or a size such as `"4GiB"`.',
    )
    function_calling: Mode | None = Field(
        default=None,
        description="What happens at a call, in sessions that do not say: `sync`, `sync_parallel` "
        "or `async` ([guide](../how-to/run-tools.md#calls-that-run-while-the-model-writes)). By "
        "default as the model's own tool-call format has it.",
    )
    protocol: Protocol | None = Field(
        default=None,
        description="How the model is told of calls in these modes: `cml`, markers that are "
        "tokens; `prompted`, markers as text; `futures`, its own format; `native`, its own format "
        "without `async`. By default `cml` if its tokenizer has the markers, else `futures`.",
    )
    constrain_calls: bool = Field(
        default=False,
        description="Models with marker tokens can only write calls whose arguments fit the tool's "
        "schema. Costs time in each step of such a session.",
    )
    sweep_seconds: float = Field(
        default=60.0, gt=0, description="How often these limits are looked after."
    )

    def limits(self) -> Limits:
        """The limits, as `Agents` takes them."""
        return Limits(
            open_sessions_per_owner=self.open_sessions_per_owner,
            idle_seconds=self.idle_seconds,
            retention_seconds=self.retention_seconds,
            database_bytes=self.database_size,
            sweep_seconds=self.sweep_seconds,
        )


class ServerSection(_Section):
    """The HTTP side of sessions."""

    keep_alive_seconds: float = Field(
        default=15.0, gt=0, description="A comment is sent on event streams that often."
    )
    body_limit: Size = Field(
        default=16 * 2**20,
        ge=1024,
        description="Larger requests of sessions, and those that name tools of the server, are "
        'refused with status 413. Bytes, or a size such as `"16MiB"`.',
    )
    tools_in_openai_routes: bool = Field(
        default=True,
        description="Requests to `/v1/chat/completions` and `/v1/responses` may name tools that "
        "the server runs (`caesura.tools` in their body).",
    )


class WebhookSection(_Section):
    """An address that is told when something waits for a human."""

    url: str = Field(pattern=r"^https?://", description="Where to POST to.")
    secret: EnvironmentText = Field(
        description="Signs each request, as the Standard Webhooks specification says; `whsec_` "
        "and Base64, or any other text. `${NAME}` comes from the environment."
    )
    events: list[Literal["approval.requested"]] = Field(
        default=["approval.requested"], description="What is told."
    )
    timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Longest time of an attempt; others follow, less and "
        "less often, while the question waits.",
    )

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        signing_key(self.secret.get_secret_value())
        return self


class ServerSettings(Settings):
    """The whole configuration file of `caesura serve`."""

    sessions: SessionsSection = Field(
        default_factory=SessionsSection, description="Where sessions are kept: `[sessions]`."
    )
    server: ServerSection = Field(
        default_factory=ServerSection, description="The HTTP side: `[server]`."
    )
    webhook: WebhookSection | None = Field(
        default=None, description="Who is told of questions to humans: `[webhook]`."
    )


def server_configuration(file: Path | None) -> Configuration[ServerSettings]:
    """What the file says; without a file there are no tools, and all else is as by default.

    Raises:
        ConfigurationError: the file cannot be read or does not fit; names every line.
    """
    if file is not None:
        return load_configuration(file, form=ServerSettings)
    return Configuration(Path.cwd() / "caesura.toml", ServerSettings(), {}, frozenset())


def database_path(configuration: Configuration[ServerSettings]) -> Path:
    """Where sessions are kept. A relative path begins at the configuration file; without one,
    at the working directory."""
    return configuration.file.resolve().parent / configuration.settings.sessions.database
