"""The request that an HTTP tool sends: a template that arguments cannot break out of."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httpx
from pydantic import JsonValue

from caesura.tools.failure import InvalidArguments
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import HttpTool
from caesura.tools.template import (
    Reference,
    TextTemplate,
    as_text,
    fill_json,
    parse_template,
    references_in,
)

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# Some servers decode the path before they split it: these would then be structure.
_PATH_STRUCTURE = re.compile(r"[/\\\x00-\x1f\x7f]")
_NOT_IN_HEADERS = re.compile(r"[^\x20-\x7e]")
_LONGEST_VALUE_IN_URL = 8192


class RequestError(ValueError):
    """A setting of a request that cannot be used.

    Attributes:
        key: which setting, below the tool.
    """

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """How arguments become a request.

    Attributes:
        method: the HTTP method.
        origin: scheme and authority; nothing of it comes from arguments.
        path: the path.
        query: names and values of the query; repeated names are allowed.
        headers: names and values.
        body: JSON with places, None for none.
        used: arguments that have their place somewhere above.
    """

    method: str
    origin: str
    path: TextTemplate
    query: tuple[tuple[str, TextTemplate], ...]
    headers: tuple[tuple[str, TextTemplate], ...]
    body: JsonValue
    used: frozenset[str]

    def request(self, arguments: Mapping[str, JsonValue]) -> httpx.Request:
        """The request for these arguments.

        Raises:
            InvalidArguments: a value cannot stand where it is wanted.
        """
        rest = {name: value for name, value in arguments.items() if name not in self.used}
        query = [*self._query(arguments)]
        body = None if self.body is None else _body(self.body, arguments)
        if body is None and self.method in _WITH_BODY:
            body = rest
        elif self.body is None:
            query += [pair for name, value in rest.items() for pair in _pairs(name, value)]
        url = self.origin + self._path(arguments)
        if query:
            url += "?" + "&".join(f"{quote(name, safe='')}={value}" for name, value in query)
        headers = dict(self._headers(arguments))
        try:
            return httpx.Request(self.method, url, headers=headers, json=body)
        except httpx.InvalidURL:
            raise InvalidArguments("the arguments do not give a valid address") from None

    def _path(self, arguments: Mapping[str, JsonValue]) -> str:
        path = self.path.fill(arguments, _path_value)
        if any(segment in {".", ".."} for segment in path.split("/")):
            raise InvalidArguments("a value in the path cannot be '.' or '..'")
        return path

    def _query(self, arguments: Mapping[str, JsonValue]) -> Iterator[tuple[str, str]]:
        for name, template in self.query:
            if len(template.parts) == 1 and isinstance(template.parts[0], Reference):
                reference = template.parts[0]
                if reference.name in arguments:
                    yield from _pairs(name, reference.value(arguments))
            elif all(reference.name in arguments for reference in template.references):
                yield name, _quoted(template.fill(arguments))

    def _headers(self, arguments: Mapping[str, JsonValue]) -> Iterator[tuple[str, str]]:
        for name, template in self.headers:
            if all(reference.name in arguments for reference in template.references):
                value = template.fill(arguments)
                if _NOT_IN_HEADERS.search(value):
                    raise InvalidArguments(
                        "a value in a header can have only printable ASCII characters"
                    )
                yield name, value.strip()


def request_template(settings: HttpTool, schema: ArgumentSchema) -> RequestTemplate:
    """Read the templates of an HTTP tool.

    Raises:
        RequestError: one of them cannot be used; it names the setting.
    """
    origin, path_text, query_text = _split_url(settings.url)
    path = _template(("url",), path_text)
    query = [*_url_query(query_text)]
    for name, secret in settings.query.items():
        query.append((name, _template(("query", name), secret.get_secret_value())))
    headers = [
        (name, _template(("headers", name), secret.get_secret_value()))
        for name, secret in settings.headers.items()
    ]
    for name, template in headers:
        if any(_NOT_IN_HEADERS.search(part) for part in template.parts if isinstance(part, str)):
            raise RequestError(("headers", name), "only printable ASCII characters can be sent")
    try:
        in_body = [*references_in(settings.json_body)]
    except ValueError as error:
        raise RequestError(("json",), str(error)) from None
    places: list[tuple[tuple[str, ...], Reference]] = [
        *((("url",), reference) for reference in path.references),
        *((("query", name), reference) for name, text in query for reference in text.references),
        *((("headers", name), ref) for name, text in headers for ref in text.references),
        *((("json",), reference) for reference in in_body),
    ]
    for key, reference in places:
        if reference.name not in schema.properties:
            raise RequestError(
                key, f"{{{reference.text}}} is no argument; add it to parameters.properties"
            )
    for reference in path.references:
        if reference.name not in schema.required:
            raise RequestError(
                ("url",), f"{{{reference.text}}} can be missing; add it to parameters.required"
            )
    used = frozenset(reference.name for _, reference in places)
    return RequestTemplate(
        settings.method, origin, path, tuple(query), tuple(headers), settings.json_body, used
    )


def _body(value: JsonValue, arguments: Mapping[str, JsonValue]) -> JsonValue:
    """The body; members whose argument is not given are left out of the outermost object.

    Raises:
        InvalidArguments: a value is missing elsewhere.
    """
    if isinstance(value, dict):
        value = {
            key: item
            for key, item in value.items()
            if all(reference.name in arguments for reference in references_in(item))
        }
    return fill_json(value, arguments)


def _split_url(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RequestError(("url",), "must begin with http:// or https:// and a host")
    if "{" in origin or "}" in origin:
        raise RequestError(("url",), "the host cannot come from an argument; write it out")
    if parts.fragment:
        raise RequestError(("url",), "has a fragment (#), which is never sent; remove it")
    if re.search(r"\s", url):
        raise RequestError(("url",), "has white space; encode it as %20")
    return origin, parts.path or "/", parts.query


def _url_query(text: str) -> Iterator[tuple[str, TextTemplate]]:
    for pair in filter(None, text.split("&")):
        name, _, value = pair.partition("=")
        if "{" in name:
            raise RequestError(("url",), "names in the query cannot come from arguments")
        yield name, _template(("url",), value)


def _template(key: tuple[str, ...], text: str) -> TextTemplate:
    try:
        return parse_template(text)
    except ValueError as error:
        raise RequestError(key, str(error)) from None


def _pairs(name: str, value: JsonValue) -> Iterator[tuple[str, str]]:
    """A value in the query; lists repeat the name, null leaves it out."""
    if value is None:
        return
    for item in value if isinstance(value, list) else [value]:
        yield name, _quoted(as_text(item))


def _path_value(value: JsonValue) -> str:
    text = as_text(value)
    if not text or _PATH_STRUCTURE.search(text):
        raise InvalidArguments(
            "a value in the path cannot be empty, nor have slashes or control characters"
        )
    return _quoted(text)


def _quoted(text: str) -> str:
    if len(text) > _LONGEST_VALUE_IN_URL:
        raise InvalidArguments("a value is too long for an address")
    return quote(text, safe="", errors="replace")
