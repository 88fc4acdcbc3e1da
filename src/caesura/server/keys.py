"""API keys with names: what the configuration file says of each, and how a new one is made."""

import json
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from caesura.errors import ConfigurationError
from caesura.session.limits import Limits

UNNAMED = "--api-key"
"""What a key of the command line is called where answers are written down."""
_PREFIX = "csk_"  # by which scanners of secrets and people know it
_SECRET_BYTES = 32
_SCHEME = "sha256:"
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]


class KeySection(BaseModel):
    """An API key, by its digest. The key itself is not stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    hash: str = Field(
        pattern=rf"^{_SCHEME}[0-9a-f]{{64}}$",
        description="SHA-256 of the key, as `caesura keys add` writes it.",
    )
    owner: KeyName | None = Field(
        default=None,
        description="Whose the sessions are that it makes. Keys of the same owner see each "
        "other's; by default each key is an owner of its own, by its name.",
    )
    tools: list[str] | Literal["all"] = Field(
        default="all", description="The tools that its sessions may have, or `all`."
    )
    may_approve: bool = Field(
        default=False,
        description='It sees and answers what tools with `approve = "operator"` ask, of the '
        "sessions of all other keys.",
    )
    open_sessions: int | None = Field(
        default=None, ge=1, description="Its owner's `open_sessions_per_owner`."
    )
    sessions_per_minute: int | None = Field(
        default=None, ge=1, description="Its owner's `sessions_per_minute`."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Highest `max_tokens` of its owner's sessions."
    )
    max_turns: int | None = Field(
        default=None, ge=1, description="Highest `max_turns` of its owner's sessions."
    )

    def limited(self, limits: Limits) -> Limits:
        """The limits of its owner, where it says something else than the server."""
        said = {
            "open_sessions_per_owner": self.open_sessions,
            "sessions_per_minute": self.sessions_per_minute,
            "max_tokens": self.max_tokens,
            "max_turns": self.max_turns,
        }
        return replace(limits, **{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as the server knows it.

    Attributes:
        digest: SHA-256 of the key.
        name: its name.
        owner: whose sessions it makes; None if a digest of the key says that.
        tools: those that its sessions may have; None for all.
        may_approve: whether it answers for operators.
    """

    digest: bytes
    name: str = UNNAMED
    owner: str | None = None
    tools: frozenset[str] | None = None
    may_approve: bool = True

    @classmethod
    def full(cls, key: str) -> "Key":
        """A key of the command line, which may everything."""
        return cls(digest_of(key))

    @classmethod
    def named(cls, name: str, section: KeySection) -> "Key":
        """A key of the configuration file."""
        return cls(
            bytes.fromhex(section.hash.removeprefix(_SCHEME)),
            name,
            section.owner or name,
            None if section.tools == "all" else frozenset(section.tools),
            section.may_approve,
        )


def digest_of(key: str) -> bytes:
    """The digest by which a key is known. Made keys have 256 random bits: none can be guessed."""
    return sha256(key.encode()).digest()


def new_key() -> str:
    """A key that nobody has."""
    return _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def key_table(
    name: str,
    key: str,
    *,
    owner: str | None = None,
    tools: list[str] | None = None,
    may_approve: bool = False,
) -> str:
    """The table of a key in a configuration file.

    Args:
        name: what the key is called.
        key: the key.
        owner: see `KeySection.owner`.
        tools: None for all.
        may_approve: see `KeySection.may_approve`.
    """
    lines = [f"[keys.{json.dumps(name)}]", f'hash = "{_SCHEME}{digest_of(key).hex()}"']
    if owner is not None:
        lines.append(f"owner = {json.dumps(owner)}")
    lines.append(f"tools = {json.dumps('all' if tools is None else tools)}")
    if may_approve:
        lines.append("may_approve = true")
    return "\n".join(lines) + "\n"


def add_table(file: Path, table: str) -> None:
    """Write a table to the end of a configuration file, which is made if there is none.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        before = file.read_text("utf-8") if file.exists() else ""
        with file.open("a", encoding="utf-8") as out:
            out.write(("\n" if before.strip() else "") + table)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
