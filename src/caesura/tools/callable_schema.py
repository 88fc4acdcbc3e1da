"""What a Python function takes, from its signature and docstring."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import docstring_parser
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, create_model
from pydantic.errors import PydanticUserError

from caesura.tools.context import CallContext
from caesura.tools.failure import InvalidArguments

_UNSUPPORTED = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of values",
    inspect.Parameter.VAR_KEYWORD: "takes any keyword",
}
# What these keys of a schema have is no schema.
_VALUES = frozenset({"const", "default", "enum", "examples"})


@dataclass(frozen=True, slots=True)
class CallableSchema:
    """A function's parameters.

    Attributes:
        description: the docstring without its sections.
        document: JSON schema of the arguments.
        model: checks and converts arguments.
        fields: the model's field by parameter name.
        context_parameter: the parameter that receives the call's context.
    """

    description: str
    document: Mapping[str, JsonValue]
    model: type[BaseModel]
    fields: Mapping[str, str]
    context_parameter: str | None

    def values(self, arguments: Mapping[str, JsonValue]) -> dict[str, Any]:
        """Arguments as the types that the function wants, by parameter name.

        Raises:
            InvalidArguments: they do not fit.
        """
        try:
            checked = self.model.model_validate(dict(arguments))
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, details['loc'])) or 'arguments'}: {details['msg']}"
                for details in error.errors(include_url=False, include_input=False)
            ]
            raise InvalidArguments("; ".join(problems)) from None
        return {name: getattr(checked, field) for name, field in self.fields.items()}


def callable_schema(function: Callable[..., Any]) -> CallableSchema:
    """Read a function's signature and docstring.

    Raises:
        ValueError: a parameter has no type, or one that cannot come from JSON.
    """
    inner = _function_inside(function)
    try:
        hints = typing.get_type_hints(inner, include_extras=True)
    except (NameError, TypeError) as error:
        raise ValueError(f"its type hints cannot be read: {error}") from None
    docstring = docstring_parser.parse(inspect.getdoc(inner) or "")
    texts = {param.arg_name: param.description for param in docstring.params}
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    context_parameter: str | None = None
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in _UNSUPPORTED:
            raise ValueError(f"its parameter {name!r} {_UNSUPPORTED[parameter.kind]}; name each")
        if name not in hints:
            raise ValueError(f"its parameter {name!r} has no type; annotate it")
        if hints[name] is CallContext:
            context_parameter = name
            continue
        # Fields are numbered, since a parameter may have the name of a method of the model.
        names[name] = f"argument_{len(names)}"
        default = ... if parameter.default is parameter.empty else parameter.default
        field = Field(default, alias=name, description=texts.get(name))
        fields[names[name]] = (hints[name], field)
    try:
        model = create_model("Arguments", __config__=ConfigDict(extra="forbid", title=""), **fields)
        document = model.model_json_schema()
    except PydanticUserError as error:
        raise ValueError(f"a parameter's type cannot come from JSON: {error.message}") from None
    return CallableSchema(
        description="\n\n".join(
            filter(None, (docstring.short_description, docstring.long_description))
        ),
        document=_without_titles(document),
        model=model,
        fields=names,
        context_parameter=context_parameter,
    )


def _function_inside(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that has the type hints and the docstring."""
    while isinstance(function, functools.partial | functools.partialmethod):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    called: Callable[..., Any] = inspect.unwrap(type(function).__call__)
    return called


def _without_titles(schema: Any) -> Any:
    """The schema without the titles that pydantic makes of names."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _VALUES else _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
