"""JSON schemas of arguments and answers, checked by `jsonschema-rs`.

A schema may come from anywhere. References to other documents are never fetched, patterns take
linear time or backtrack a bounded number of steps, and the effort of a check is counted first.
"""

import json
import logging
from collections.abc import Mapping
from functools import lru_cache

import jsonschema_rs
from pydantic import JsonValue

from caesura.tools.failure import InvalidArguments
from caesura.tools.foreign_log import log_foreign
from caesura.tools.schema_effort import TooMuchEffort, effort
from caesura.tools.schema_reading import Node, plain_schema

_LOG = logging.getLogger(__name__)
_LONGEST_MESSAGE = 500
_LONGEST_SCHEMA = 2**18
_MOST_STEPS = 30_000
_MOST_STEPS_OF_MESSAGES = 1000  # what is wrong takes far longer to find than that it is
_MOST_RELAXED = 20
_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000)


class Schema:
    """A compiled JSON schema.

    Args:
        document: the schema; the spellings of OpenAPI 3.0 are understood.
        lenient: leave out what cannot be checked, and say so in the log. For schemas of others
            that check themselves.

    Raises:
        ValueError: it is not a JSON schema, refers to what it does not contain, or is too large.
    """

    def __init__(self, document: Mapping[str, JsonValue], *, lenient: bool = False) -> None:
        self._document = plain_schema(document)
        if len(json.dumps(self._document)) > _LONGEST_SCHEMA:
            raise ValueError(f"the schema is longer than {_LONGEST_SCHEMA} characters")
        for _ in range(_MOST_RELAXED if lenient else 1):
            try:
                self._validator = jsonschema_rs.validator_for(
                    self._document, pattern_options=_PATTERNS, offline=True
                )
                return
            except jsonschema_rs.ValidationError as error:
                problem = f"not a JSON schema: {error.message[:_LONGEST_MESSAGE]}"
                if not lenient or not _left_out(self._document, list(error.instance_path)):
                    break
                _log_once(problem)
        raise ValueError(problem)

    def problem(self, value: JsonValue) -> str | None:
        """Return what is wrong with a value, and where in it; None if it fits."""
        try:
            steps = effort(self._document, value, _MOST_STEPS)
            if self._validator.is_valid(value):
                return None
            if steps > _MOST_STEPS_OF_MESSAGES:
                return "it does not fit the schema"
            error = next(self._validator.iter_errors(value))
        except TooMuchEffort:
            return "it takes too long to check; make it smaller"
        except UnicodeEncodeError:
            return "it contains half of a surrogate pair, which is not text"
        except ValueError as unusable:
            return str(unusable)  # nested too deeply
        where = "".join(
            f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.instance_path
        ).lstrip(".")
        return (f"{where}: {error.message}" if where else error.message)[:_LONGEST_MESSAGE]


class ArgumentSchema:
    """A JSON schema that arguments are checked against.

    Args:
        document: the schema.
        lenient: as for `Schema`.

    Attributes:
        document: the schema, of an object.

    Raises:
        ValueError: it is not a JSON schema of an object.
    """

    def __init__(self, document: Mapping[str, JsonValue], *, lenient: bool = False) -> None:
        self.document = dict(document)
        kind = self.document.setdefault("type", "object")
        if kind != "object" and not (isinstance(kind, list) and "object" in kind):
            raise ValueError('the schema of arguments must have type = "object"')
        self.document.setdefault("properties", {})
        self._schema = Schema(self.document, lenient=lenient)

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


@lru_cache(maxsize=1000)
def _log_once(problem: str) -> None:
    log_foreign(_LOG, f"part of a schema is not checked here: {problem}")


def _left_out(document: Node, path: list[str | int]) -> bool:
    """Take out what stands at a path; False if nothing can be."""
    node: JsonValue = document
    for key in path[:-1]:
        node = node[key]  # type: ignore[index]
    if not path or not isinstance(node, dict):
        return False
    del node[str(path[-1])]
    return True
