"""JSON schemas of arguments."""

from collections.abc import Mapping

import jsonschema
from jsonschema.protocols import Validator
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from caesura.tools.failure import InvalidArguments

_LONGEST_MESSAGE = 500


class ArgumentSchema:
    """A JSON schema that arguments are checked against.

    References to other documents are never fetched.

    Attributes:
        document: the schema, of an object.

    Raises:
        ValueError: it is no JSON schema of an object.
    """

    def __init__(self, document: Mapping[str, JsonValue]) -> None:
        self.document = dict(document)
        if self.document.setdefault("type", "object") != "object":
            raise ValueError('the schema of arguments must have type = "object"')
        self.document.setdefault("properties", {})
        kind = jsonschema.validators.validator_for(
            self.document, default=jsonschema.Draft202012Validator
        )
        try:
            kind.check_schema(self.document)
        except jsonschema.SchemaError as error:
            raise ValueError(f"not a JSON schema: {error.message}") from None
        self._validator: Validator = kind(self.document, registry=Registry())

    @classmethod
    def closed(cls, document: Mapping[str, JsonValue]) -> "ArgumentSchema":
        """The schema, which refuses unknown arguments unless it says something about them.

        Raises:
            ValueError: it is no JSON schema of an object.
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
        try:
            error = jsonschema.exceptions.best_match(self._validator.iter_errors(dict(arguments)))
        except (Unresolvable, RecursionError):
            raise InvalidArguments("the tool's own schema is broken; it cannot be used") from None
        if error is not None:
            where = "".join(
                f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path
            ).lstrip(".")
            message = f"{where}: {error.message}" if where else error.message
            raise InvalidArguments(message[:_LONGEST_MESSAGE])
