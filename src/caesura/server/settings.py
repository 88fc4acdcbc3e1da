"""The settings of the server, in the same configuration file as its tools."""

import os
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from caesura.cml import Mode
from caesura.server.hosts import is_loopback
from caesura.server.keys import KeyName, KeySection, Size
from caesura.server.sessions.signatures import signing_key
from caesura.session.limits import Limits
from caesura.session.records import AskedProtocol
from caesura.session.store import is_shared
from caesura.tools.configuration import Configuration, load_configuration
from caesura.tools.environment import EnvironmentText, EnvironmentWord
from caesura.tools.settings import Settings

DATABASE_NAME = "caesura.db"
DATABASE_VARIABLE = "CAESURA_DATABASE"
"""Has what `--database` says: vLLM logs its options, and an address may have a password."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SessionsSection(_Section):
    """Where server-run sessions are kept, and how many of them."""

    database: EnvironmentWord = Field(
        default=DATABASE_NAME,
        repr=False,
        description="The SQLite file; a relative path begins at the configuration file. Or a "
        "database of PostgreSQL, which several servers may share "
        "([guide](../how-to/several-servers.md)): `postgresql://USER:${PASSWORD}@HOST/NAME`. "
        "`--database` goes before it.",
    )
    lease_seconds: float = Field(
        default=10.0,
        ge=1,
        description="Of servers that share a database: the sessions of one that is not heard of "
        "for so long are taken by others.",
    )
    open_sessions_per_owner: int = Field(
        default=1000, ge=1, description="Sessions of one API key that have not ended, at most."
    )
    sessions_per_minute: int = Field(
        default=1200, ge=1, description="Sessions that one API key makes within a minute, at most."
    )
    owner_size: Size | None = Field(
        default=None,
        ge=2**20,
        description="What is kept of all sessions and responses of one API key, at most: texts, "
        "tokens and some bytes for each record. Past this, sessions of the key that have ended are "
        "forgotten earlier, the oldest first, and then its conversations of the Responses API; if "
        "that is not enough, its requests are refused, and its sessions end. By default each key "
        "has an equal share of `database_size`.",
    )
    waiting_messages: int = Field(
        default=100,
        ge=1,
        description="Messages of a session that its model has not read yet, at most.",
    )
    calls_per_turn: int = Field(
        default=64,
        ge=1,
        description="Calls of one turn that are run, and the highest `max_pending_calls` of a "
        "session; the model is told to call again for the others.",
    )
    streams_per_owner: int = Field(
        default=200,
        ge=1,
        description="Event streams that one API key reads at the same time, at most, and "
        "responses that are generated in the background for it.",
    )
    generating_per_owner: int | None = Field(
        default=None,
        ge=1,
        description="Answers that are generated for one API key at the same time, at most, those "
        "of vLLM's routes among them. Others wait for their turn, and no other key waits for them. "
        "Each step of the engine takes longer with each of them, for everybody. By default any "
        "number.",
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Highest `max_tokens` of a session; by default any."
    )
    max_turns: int = Field(
        default=1000, ge=1, le=10_000, description="Highest `max_turns` of a session."
    )
    metadata_size: Size = Field(
        default=16 * 2**10,
        ge=0,
        description='Metadata of a session, at most; bytes, or a size such as `"16KiB"`.',
    )
    share_prefixes: bool = Field(
        default=False,
        description="Sessions of different API keys may use the same cached contexts. It saves "
        "memory where many have the same long beginning, and tells each how much of what it sends "
        "others have had (`cached_tokens`, and the time to the first token).",
    )
    idle_seconds: float = Field(
        default=24 * 3600.0,
        gt=0,
        description="A session that waits for its user longer than this is ended.",
    )
    retention_seconds: float = Field(
        default=7 * 24 * 3600.0,
        ge=0,
        description="A session is forgotten this long after its end, and a conversation of the "
        "Responses API after its last response.",
    )
    database_size: Size = Field(
        default=4 * 2**30,
        ge=2**20,
        description="What is kept of all sessions and responses, shared equally by the keys (see "
        '`owner_size`). Bytes, or a size such as `"4GiB"`.',
    )
    function_calling: Mode | None = Field(
        default=None,
        description="What happens at a call, in sessions that do not say: `sync`, `sync_parallel` "
        "or `async` ([guide](../how-to/run-tools.md#calls-that-run-while-the-model-writes)). By "
        "default as the model's own tool-call format has it.",
    )
    default_tools: list[str] | Literal["all"] = Field(
        default=[],
        description="The tools of sessions that do not say which they want, or `all`.",
    )
    protocol: AskedProtocol | None = Field(
        default=None,
        description="How the model is told of calls in these modes: `cml`, markers that are "
        "tokens; `futures`, its own format; `native`, its own format without `async`. By default "
        "`cml` if its tokenizer has the markers, else `futures`.",
    )
    constrain_calls: bool = Field(
        default=False,
        description="Models with marker tokens can only write calls whose arguments fit the tool's "
        "schema. Costs time in each step of such a session.",
    )
    sweep_seconds: float = Field(
        default=60.0, gt=0, description="How often these limits are looked after."
    )

    def limits(self, owners: int = 1) -> Limits:
        """The limits as sessions take them.

        Args:
            owners: how many share what may be stored.
        """
        return Limits(
            open_sessions_per_owner=self.open_sessions_per_owner,
            sessions_per_minute=self.sessions_per_minute,
            owner_bytes=self.owner_size or self.database_size // owners,
            waiting_messages=self.waiting_messages,
            calls_per_turn=self.calls_per_turn,
            streams_per_owner=self.streams_per_owner,
            generating_per_owner=self.generating_per_owner,
            max_tokens=self.max_tokens,
            max_turns=self.max_turns,
            metadata_bytes=self.metadata_size,
            idle_seconds=self.idle_seconds,
            retention_seconds=self.retention_seconds,
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
    request_limit: Size = Field(
        default=64 * 2**20,
        ge=1024,
        description="Larger requests to any route are refused with status 413. Bytes, or a size "
        'such as `"64MiB"`.',
    )
    tools_in_openai_routes: bool = Field(
        default=True,
        description="Requests to `/v1/chat/completions` and `/v1/responses` may name tools that "
        "the server runs (`caesura.tools` in their body).",
    )


class WebhookSection(_Section):
    """An address that is told when something waits for a human."""

    url: str = Field(
        pattern=r"^https?://",
        description="Where to POST to: `https`, or this machine.",
    )
    allow_http: bool = Field(
        default=False,
        description="`url` may be `http` on another machine: whoever is on the way reads the "
        "questions, with the arguments of the calls.",
    )
    secret: EnvironmentText = Field(
        description="Signs each request, as the Standard Webhooks specification says; `whsec_` "
        "and Base64, or any other text; at least 24 random bytes. `${NAME}` comes from the "
        "environment."
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

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        url = urlsplit(self.url)
        if url.scheme == "http" and not self.allow_http and not is_loopback(url.hostname or ""):
            raise ValueError(
                "url is http, and not on this machine: anybody on the way could read the "
                "questions. Give an https address, or say allow_http = true"
            )
        return self


class ServerSettings(Settings):
    """The whole configuration file of `caesura serve`."""

    sessions: SessionsSection = Field(
        default_factory=SessionsSection, description="Where sessions are kept: `[sessions]`."
    )
    server: ServerSection = Field(
        default_factory=ServerSection, description="The HTTP side: `[server]`."
    )
    keys: dict[KeyName, KeySection] = Field(
        default_factory=dict, description="API keys with names: `[keys.NAME]`."
    )
    webhook: WebhookSection | None = Field(
        default=None, description="Who is told of questions to humans: `[webhook]`."
    )

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        names: dict[str, str] = {}
        limits: dict[str, tuple[str, Limits]] = {}
        for name, key in self.keys.items():
            if names.setdefault(key.hash, name) != name:
                raise ValueError(f"keys {names[key.hash]!r} and {name!r} are the same key")
            limited = key.limited(Limits())
            other, others = limits.setdefault(key.owner or name, (name, limited))
            if others != limited:
                raise ValueError(
                    f"keys {other!r} and {name!r} have one owner: give both the same limits"
                )
        return self

    def owner_limits(self, limits: Limits) -> dict[str, Limits]:
        """The limits of owners whose keys set their own."""
        return {key.owner or name: key.limited(limits) for name, key in self.keys.items()}

    def generating_of(self, owner: str) -> int | None:
        """How many answers are generated for an owner at the same time; None for any number."""
        limits = self.sessions.limits()
        return self.owner_limits(limits).get(owner, limits).generating_per_owner


def server_configuration(file: Path | None) -> Configuration[ServerSettings]:
    """What the file says; without a file there are no tools, and all else is as by default.

    Raises:
        ConfigurationError: the file cannot be read or does not fit; names every line.
    """
    if file is not None:
        return load_configuration(file, form=ServerSettings)
    return Configuration(Path.cwd() / "caesura.toml", ServerSettings(), {}, frozenset())


def database_path(configuration: Configuration[ServerSettings]) -> Path | str:
    """Where sessions are kept: a file, or the address of a database. A relative path begins at the
    configuration file; without one, or if it is an option, at the working directory."""
    if given := os.environ.get(DATABASE_VARIABLE):
        return given if is_shared(given) else Path(given).resolve()
    database = configuration.settings.sessions.database
    return database if is_shared(database) else configuration.file.resolve().parent / database
