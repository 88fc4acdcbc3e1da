"""The body of a call: one JSON object that names a tool and gives it arguments."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from caesura.cml.faults import ErrorKind, ProtocolError, excerpt
from caesura.cml.frames import JsonObject, JsonValue
from caesura.cml.strict_json import UnsoundJson, read_json

_LISTED_TOOLS = 50

Objection = Callable[[str, JsonObject], str | None]
"""Why arguments do not fit the tool of that name, for the model; None if they do."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A tool and its arguments."""

    name: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class KnownTools:
    """The tools that can be called, and what their arguments must be.

    Attributes:
        names: the tools.
        objection: checks the arguments of a known tool, and must not raise; None accepts any.
    """

    names: Collection[str]
    objection: Objection | None = None

    def check(self, invocation: Invocation) -> ProtocolError | None:
        """Why this call cannot be made; None if it can."""
        if invocation.name not in self.names:
            known = ", ".join(sorted(self.names)[:_LISTED_TOOLS]) or "none"
            return ProtocolError(
                ErrorKind.UNKNOWN_TOOL,
                f"There is no tool {excerpt(invocation.name)}. Tools: {known}.",
            )
        if self.objection is None:
            return None
        reason = self.objection(invocation.name, invocation.arguments)
        return None if reason is None else ProtocolError(ErrorKind.INVALID_ARGUMENTS, reason)


def read_body(text: str, nesting: int) -> Invocation | ProtocolError:
    """Read an unescaped body, whose arguments are nested at most `nesting` levels deep."""
    try:
        value = read_json(text, nesting + 1)
    except UnsoundJson as error:
        return ProtocolError(ErrorKind.MALFORMED_JSON, f"The body is not valid JSON: {error}.")
    return _invocation(value)


def _invocation(value: JsonValue) -> Invocation | ProtocolError:
    if not isinstance(value, dict):
        return _unsuitable("the body must be a JSON object")
    name = value.get("name")
    arguments = value.get("arguments", {})
    if not isinstance(name, str) or not name:
        return _unsuitable('"name" must be the name of a tool')
    if not isinstance(arguments, dict):
        return _unsuitable('"arguments" must be a JSON object')
    if unknown := sorted(value.keys() - {"name", "arguments"}):
        return _unsuitable(f"{excerpt(unknown[0])} is neither name nor arguments")
    return Invocation(name, arguments)


def _unsuitable(reason: str) -> ProtocolError:
    form = '{"name": "...", "arguments": {...}}'
    return ProtocolError(ErrorKind.MALFORMED_BODY, f"The body is not {form}: {reason}.")
