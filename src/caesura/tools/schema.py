"""JSON schemas of arguments and answers, checked by `jsonschema-rs`.

References to other documents are never fetched, and a pattern backtracks a bounded number of
steps, so that a schema from elsewhere costs a bounded time.
"""

from collections.abc import Mapping

import jsonschema_rs
from pydantic import JsonValue

from caesura.tools.failure import InvalidArguments

_LONGEST_MESSAGE = 500
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)
_KNOWN_DRAFTS = ("json-schema.org/draft", "json-schema.org/schema")


class Schema:
    """A compiled JSON schema.

    Raises:
        ValueError: it is not a JSON schema, or refers to what it does not contain.
    """

    def __init__(self, document: Mapping[str, JsonValue]) -> None:
        kept = dict(document)
        if not any(draft in str(kept.get("$schema", "")) for draft in _KNOWN_DRAFTS):
            kept.pop("$schema", None)  # of another dialect: read as the newest draft
        try:
            self._validator = jsonschema_rs.validator_for(
                kept, pattern_options=_PATTERNS, offline=True
            )
        except jsonschema_rs.ValidationError as error:
            raise ValueError(f"not a JSON schema: {error.message}") from None

    def problem(self, value: JsonValue) -> str | None:
        """Return what is wrong with a value, and where in it; None if it fits."""
        try:
            error = next(self._validator.iter_errors(value), None)
        except UnicodeEncodeError:
            return "it contains half of a surrogate pair, which is not text"
        except ValueError as unusable:
            return str(unusable)  # nested too deeply
        if error is None:
            return None
        where = "".join(
            f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.instance_path
        ).lstrip(".")
        return (f"{where}: {error.message}" if where else error.message)[:_LONGEST_MESSAGE]


class ArgumentSchema:
    """A JSON schema that arguments are checked against.

    Attributes:
        document: the schema, of an object.

    Raises:
        ValueError: it is not a JSON schema of an object.
    """

    def __init__(self, document: Mapping[str, JsonValue]) -> None:
        self.document = dict(document)
        if self.document.setdefault("type", "object") != "object":
            raise ValueError('the schema of arguments must have type = "object"')
        self.document.setdefault("properties", {})
        self._schema = Schema(self.document)

    @classmethod
    def closed(cls, document: Mapping[str, JsonValue]) -> "ArgumentSchema":
        """The schema, which refuses unknown arguments unless it says something about them.

        Raises:
            ValueError: it is not a JSON schema of an object.
        """
        return cls({"additionalProperties": False, **document})

    @property
    def properties(self) -> frozenset[str]:
        """The names of arguments."""
        properties = self.document["properties"]
        return frozenset(properties) if isinstance(properties, dict) else frozenset()

    @property
    def required(self) -> frozenset[str]:
        """The names of arguments that must be given."""
        required = self.document.get("required")
        return frozenset(map(str, required)) if isinstance(required, list) else frozenset()

    def check(self, arguments: Mapping[str, JsonValue]) -> None:
        """Check arguments.

        Raises:
            InvalidArguments: they do not fit; the message says where.
        """
        problem = self._schema.problem(dict(arguments))
        if problem is not None:
            raise InvalidArguments(problem)
