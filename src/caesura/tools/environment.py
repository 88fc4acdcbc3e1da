"""Secrets in a configuration: `${NAME}` is taken from the environment."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import quote, quote_plus

from pydantic import BeforeValidator, SecretStr, ValidationInfo

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
# Shorter values are too likely to occur in harmless text.
_SHORTEST_SECRET = 4
_MASK = "***"
_CREDENTIAL = re.compile("KEY|TOKEN|SECRET|PASS|AUTH|CREDENTIAL|PRIVATE", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Environment:
    """Where `${NAME}` is looked up, and every value that was taken.

    Attributes:
        variables: names and values, as in `os.environ`.
        secrets: values that were looked up, filled while a configuration is read.
        credentials: those whose names say that they are keys or the like.
    """

    variables: Mapping[str, str]
    secrets: set[str] = field(default_factory=set)
    credentials: set[str] = field(default_factory=set)

    def value(self, name: str) -> str:
        """The value of a variable.

        Raises:
            ValueError: it is not set.
        """
        if name not in self.variables:
            raise ValueError(
                f"the environment variable {name!r} is not set; set it and start again"
            )
        value = self.variables[name]
        self.secrets.add(value)
        if _CREDENTIAL.search(name):
            self.credentials.add(value)
        return value


def redacted(text: str, secrets: frozenset[str]) -> str:
    """The text without any of the secrets, also as they stand in addresses and in JSON."""
    spelled = {
        spelling
        for secret in secrets
        if len(secret) >= _SHORTEST_SECRET
        for spelling in (
            secret,
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
        )
    }
    for spelling in sorted(spelled, key=len, reverse=True):
        text = text.replace(spelling, _MASK)
    return text


def _filled(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    environment = _environment(info)
    return _REFERENCE.sub(lambda match: environment.value(match[1]), value)


def _filled_template(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    environment = _environment(info)

    def literal(match: re.Match[str]) -> str:
        # Braces in a secret are braces, not places for arguments.
        return environment.value(match[1]).replace("{", "{{").replace("}", "}}")

    return _REFERENCE.sub(literal, value)


def _environment(info: ValidationInfo) -> Environment:
    if not isinstance(info.context, Environment):
        raise TypeError("settings are validated with an Environment as context")
    return info.context


EnvironmentText = Annotated[SecretStr, BeforeValidator(_filled)]
"""A text in which `${NAME}` was replaced. Needs an `Environment` as validation context."""

EnvironmentWord = Annotated[str, BeforeValidator(_filled)]
"""The same for a text that is shown: what came from the environment is a part of it only."""

EnvironmentTemplate = Annotated[SecretStr, BeforeValidator(_filled_template)]
"""The same for a template: what came from the environment is literal in it."""
