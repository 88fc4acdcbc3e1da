"""Who may use the server: keys, host names, origins, and what stands open without a key."""

import hmac
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import Scope

from caesura.errors import ConfigurationError
from caesura.server.errors import ApiError
from caesura.server.hosts import is_loopback
from caesura.server.keys import Key, KeySection, digest_of
from caesura.server.owners import ANONYMOUS, Owners, given_key
from caesura.server.sessions.service import Service
from caesura.session.records import SessionSpec
from caesura.tools.call import Question
from caesura.tools.settings import CallSettings, McpServerSettings, Settings

API_KEY_VARIABLE = "VLLM_API_KEY"
OPEN_PATHS = frozenset({"/health", "/ping", "/ready"})
"""What needs no key, beside the files of the dashboard's page."""
OPEN_FOLDER = "/dashboard"
# Forms with files; all other bodies are JSON.
_UPLOADS = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_READING = frozenset({"GET", "HEAD"})
Asked = list[str] | Literal["all"] | None
CALLER = "caesura_caller"
"""Where a request's scope has its `Caller`, once it was admitted."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        owner: whose sessions and transcripts are meant.
        key: the name of the key; None if the server asks for none.
        tools: those that sessions may have; None for all.
        may_approve: whether it answers for operators.
    """

    owner: str
    key: str | None = None
    tools: frozenset[str] | None = None
    may_approve: bool = False

    def fitted(self, spec: SessionSpec, asked: Asked, service: Service) -> SessionSpec:
        """The same for a session that is made now.

        Args:
            spec: what was asked for.
            asked: the tools among that; None for the server's default.
            service: has the tools.

        Raises:
            ApiError: the key may not use a tool that was asked for.
        """
        tools: list[str] | None
        if isinstance(asked, list):
            tools = asked
            if self.tools is not None and (others := sorted({*tools} - self.tools)):
                raise ApiError(
                    403,
                    f"this API key may not use {', '.join(others)}",
                    param="tools",
                    code="tool_not_allowed",
                )
        else:
            tools = None if asked == "all" else service.default_tools
            if self.tools is not None:
                there = service.executor.names() if tools is None else tools
                tools = sorted(self.tools & {*there})
        return spec.model_copy(update={"tools": tools, "made_by": self.key})

    def may_answer(self, question: Question, owner: str, made_by: str | None) -> bool:
        """Whether it may answer a question that it sees.

        Args:
            question: the question.
            owner: of its session.
            made_by: the key that has made the session.
        """
        if not question.by_operator:
            return True
        is_maker = owner == self.owner and made_by in (self.key, None)
        return self.may_approve and not is_maker


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one server.

    Without keys every request must come from this machine or by a name that was allowed, and from
    no page of another origin: a browser would otherwise let any page use the server. With keys
    no page can do that, since browsers add no key by themselves.

    Attributes:
        keys: the API keys; with none everybody may use everything.
        allowed_hosts: names of the server, beside those of this machine; `*.example.com` for all
            names below it, `*` for any. If there are some, they hold with keys, too.
        allowed_origins: origins of pages that may use a server without keys.
    """

    keys: tuple[Key, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: frozenset[str] = frozenset()

    @classmethod
    def of_server(
        cls,
        args: Namespace,
        allowed_hosts: Sequence[str] = (),
        named: Mapping[str, KeySection] = MappingProxyType({}),
    ) -> "Access":
        """The rules of a server with vLLM's command line.

        Args:
            args: vLLM's command line.
            allowed_hosts: see `allowed_hosts`.
            named: keys of the configuration file.

        Raises:
            ConfigurationError: an API key is empty.
        """
        keys = [
            *map(Key.full, given_keys(args.api_key)),
            *(Key.named(name, section) for name, section in named.items()),
        ]
        origins = frozenset(args.allowed_origins) - {"*"}  # of pages it must be said which
        return cls(tuple(keys), tuple(allowed_hosts), origins)

    @property
    def has_keys(self) -> bool:
        """Whether the server asks for API keys."""
        return bool(self.keys)

    @property
    def owners(self) -> int:
        """How many owners there are."""
        return len({key.owner or key.digest for key in self.keys}) or 1

    def admit(self, scope: Scope) -> Caller:
        """Who makes a request, if it may be served.

        Args:
            scope: of an HTTP request or a WebSocket.

        Raises:
            ApiError: 401, 403 or 415.
        """
        headers = Headers(scope=scope)
        if not self.has_keys or self.allowed_hosts:
            self._require_host(headers, scope)
        if not self.has_keys:
            self._require_own_page(headers, scope)
        key = self._key(headers, scope)
        _require_json(headers, scope)
        if key is None:
            return Caller(ANONYMOUS)
        owners: Owners = scope["app"].state.caesura_owners
        return Caller(key.owner or owners.of(headers), key.name, key.tools, key.may_approve)

    def require_operators(self, settings: Settings) -> None:
        """See that somebody may answer what tools ask of operators.

        Raises:
            ConfigurationError: nobody may.
        """
        asking = [
            name
            for name, tool in (*settings.tools.items(), *settings.mcp.items())
            if "operator" in (tool.approve, *_approvals_of_tools(tool))
        ]
        if asking and not any(key.may_approve for key in self.keys):
            raise ConfigurationError(
                f'{asking[0]}: approve is "operator", and no API key may approve: give one '
                "may_approve = true (`caesura keys add NAME --may-approve`)"
            )

    def _require_host(self, headers: Headers, scope: Scope) -> None:
        given = headers.getlist("host")
        name = _host_name(given[0]) if len(given) == 1 else None
        own = (scope.get("server") or (None,))[0]  # the address that the client has connected to
        if name is None or not (
            is_loopback(name)
            or name == own
            or any(_fits(name, allowed) for allowed in self.allowed_hosts)
        ):
            raise ApiError(
                403,
                f"this server does not answer to the name {', '.join(given) or '(none)'!r}: "
                "start it with --allowed-hosts NAME",
                code="unknown_host",
            )

    def _require_own_page(self, headers: Headers, scope: Scope) -> None:
        """See that no page of another origin makes the request: it needs no key to do so."""
        origin = headers.get("origin")
        if origin in self.allowed_origins:
            return
        reading = scope.get("method") in _READING
        is_link = reading and headers.get("sec-fetch-mode") == "navigate"
        site = headers.get("sec-fetch-site", "none")
        if (origin is None or _is_own(origin, headers["host"], scope["scheme"])) and (
            site in ("none", "same-origin") or is_link
        ):
            return
        raise ApiError(
            403,
            f"pages of {origin or 'another origin'} may not use this server, which asks for no "
            "key: start it with --api-key KEY, or with --allowed-origins",
            code="foreign_origin",
        )

    def _key(self, headers: Headers, scope: Scope) -> Key | None:
        """The key of a request; None if it needs none."""
        if not self.has_keys or _is_open(scope):
            return None
        key = given_key(headers)
        given = digest_of(key)
        # Every key is compared, and each in constant time.
        fitting = [known for known in self.keys if hmac.compare_digest(given, known.digest)]
        if not key or not fitting:
            raise ApiError(401, "give an API key: Authorization: Bearer KEY", code="no_api_key")
        return fitting[0]


def _approvals_of_tools(tool: CallSettings) -> list[object]:
    """What an MCP server's settings say of its tools; nothing for others."""
    of_tools = tool.settings.values() if isinstance(tool, McpServerSettings) else ()
    return [each.approve for each in of_tools]


def caller_of(request: Request) -> Caller:
    """Who makes a request that was admitted."""
    caller: Caller = request.scope[CALLER]
    return caller


_current: ContextVar[Caller | None] = ContextVar("caesura_caller", default=None)


def current_caller() -> Caller | None:
    """Who makes the request that this task works for; None for what no request has begun."""
    return _current.get()


@contextmanager
def serving_caller(caller: Caller) -> Iterator[None]:
    """Within it, and in every task started there, `caller` is the current one."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def owner_of(request: Request) -> str:
    """The owner of a request that was admitted."""
    return caller_of(request).owner


CallerOf = Annotated[Caller, Depends(caller_of)]
OwnerOf = Annotated[str, Depends(owner_of)]


def given_keys(option: Sequence[str] | None) -> list[str]:
    """The API keys of a server: those of `--api-key`, or that of `VLLM_API_KEY`.

    Raises:
        ConfigurationError: one of them is empty.
    """
    variable = os.environ.get(API_KEY_VARIABLE)
    if any(not key.strip() for key in option or ()) or (option is not None and not option):
        raise ConfigurationError("--api-key is empty: give a key, or leave the option out")
    if variable is not None and not variable.strip():
        raise ConfigurationError(f"{API_KEY_VARIABLE} is empty: set it to a key, or unset it")
    return list(option) if option else [variable] if variable else []


def require_closed(host: str | None, uds: str | None, *, has_tools: bool, insecure: bool) -> None:
    """Refuse to serve tools to a network without a key.

    Args:
        host: where the server listens; None for everywhere.
        uds: a Unix socket instead.
        has_tools: whether the server runs tools.
        insecure: whether that is meant.

    Raises:
        ConfigurationError: everybody who reaches the server could run its tools.
    """
    if has_tools and not insecure and not is_local(host, uds):
        raise ConfigurationError(
            f"anyone who reaches {host or 'this machine'} could run this server's tools: give "
            "--api-key KEY, listen on --host 127.0.0.1, or say --insecure-no-key"
        )


def is_local(host: str | None, uds: str | None) -> bool:
    """Whether a server that listens there is reached from its own machine only."""
    return bool(uds) or (bool(host) and is_loopback(str(host)))


def _is_open(scope: Scope) -> bool:
    """Whether a request needs no key: it shows nothing, or says how to ask (CORS)."""
    if scope.get("method") == "OPTIONS":
        return True
    path = _path(scope)
    is_page = path == OPEN_FOLDER or path.startswith(f"{OPEN_FOLDER}/")
    return scope.get("method") in _READING and (path in OPEN_PATHS or is_page)


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _require_json(headers: Headers, scope: Scope) -> None:
    """Bodies are JSON and say so: a page of another origin cannot send them unasked."""
    kind = headers.get("content-type")
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if scope["type"] != "http" or (kind is None and not has_body):
        return
    media = (kind or "").partition(";")[0].strip().lower()
    if media == "application/json" or (media == "multipart/form-data" and _path(scope) in _UPLOADS):
        return
    raise ApiError(
        415,
        f"the body is {media or 'of no type'}: send JSON, with Content-Type: application/json",
        code="not_json",
    )


def _host_name(host: str) -> str | None:
    """The name in a `Host` header, without port and brackets; None if there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_own(origin: str, host: str, scheme: str) -> bool:
    """Whether an origin is the server itself, as the client names it.

    A proxy in front may speak https where the server does not.
    """
    try:
        page, server = urlsplit(origin), urlsplit(f"//{host}")
        port = _DEFAULT_PORTS.get(page.scheme)
        own = _DEFAULT_PORTS[scheme] if is_loopback(server.hostname or "") else port
        return (
            page.scheme in ("http", "https")
            and page.hostname == server.hostname
            and (page.port or port) == (server.port or own)
        )
    except ValueError:
        return False


def _fits(name: str, allowed: str) -> bool:
    allowed = allowed.lower()
    if allowed.startswith("*."):
        return name.endswith(allowed[1:])
    return allowed in ("*", name)
