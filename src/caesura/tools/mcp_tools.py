"""Which tools of an MCP server the model sees, and under which names."""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping

from mcp import types

from caesura.tools.endpoint import Endpoint
from caesura.tools.foreign_log import log_foreign
from caesura.tools.settings import TOOL_NAME, CommonSettings, McpServerSettings

_LOG = logging.getLogger(__name__)
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME = 64
_MOST_TOOLS = 200
_MOST_MESSAGES = 1000

MakeEndpoint = Callable[[str, types.Tool, CommonSettings], Endpoint]


def name_for_model(prefix: str, name: str) -> str:
    """A tool's name as models and providers take it: `[A-Za-z0-9_-]{1,64}`.

    It depends on nothing but prefix and name. A name that has other characters or is too long
    ends in a digest of itself, so that two names stay two.
    """
    if name and TOOL_NAME.fullmatch(prefix + name):
        return prefix + name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = prefix + _FOREIGN.sub("_", name).strip("_")
    return f"{kept[: _LONGEST_NAME - 1 - len(digest)].rstrip('_') or 'tool'}_{digest}"


class Names:
    """Where each name that the model sees comes from.

    A name stays with the one that had it first, and one that begins like a server's names is
    that server's: else a tool could take another one's name, and with it what was set for it.

    Args:
        own: the tools of the configuration.
        prefixes: what the names of each server's tools begin with, by server.
    """

    def __init__(self, own: Iterable[str], prefixes: Mapping[str, str]) -> None:
        self._owners = dict.fromkeys(own, "[tools]")
        self._prefixes = prefixes

    def owner(self, name: str, server: str) -> str:
        """Whose a name is that a server wants: that server's if it is free."""
        fitting = [other for other in self._prefixes if name.startswith(self._prefixes[other])]
        longest = max(fitting, key=lambda other: len(self._prefixes[other]), default=server)
        if len(self._prefixes[server]) < len(self._prefixes[longest]):
            return self._owners.get(name, f"[mcp.{longest}]")
        return self._owners.setdefault(name, f"[mcp.{server}]")


class McpTools:
    """The tools of one server.

    The first list fixes them. Later a tool is offered as long as its definition is the same,
    unless `follow_changes` is set.

    Args:
        server: the server's name in the configuration.
        settings: the server's settings.
        names: where each name comes from; shared by all servers.
        make: makes the endpoint of a tool.

    Attributes:
        endpoints: what is offered, by the names for the model; changed in place.
        clashes: names that are somebody else's, and whose.
        expected: names for the model that may be added later, since somebody waits for them.
    """

    def __init__(
        self,
        server: str,
        settings: McpServerSettings,
        names: Names,
        make: MakeEndpoint,
    ) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.clashes: dict[str, str] = {}
        self._server = server
        self._title = f"[mcp.{server}]"
        self._settings = settings
        self._prefix = settings.prefix_of(server)
        self._keys = (*(settings.tools or ()), *settings.settings)
        self.expected = {name_for_model(self._prefix, key) for key in self._keys} | {*self._keys}
        self._names = names
        self._make = make
        self._listed: dict[str, types.Tool] | None = None
        self._digests: dict[str, str] = {}
        self._logged: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def is_known(self) -> bool:
        """Whether the tools were listed at least once."""
        return self._listed is not None

    @property
    def names_there(self) -> list[str]:
        """The names that all its tools have there."""
        return sorted(tool.name for tool in (self._listed or {}).values())

    def missing(self) -> list[str]:
        """Keys of the settings that name no tool of the last list."""
        known = {*(self._listed or {}), *self.names_there}
        return [key for key in dict.fromkeys(self._keys) if key not in known]

    def may_bring(self, name: str) -> bool:
        """Whether a tool that is not offered may still come."""
        is_awaited = not self.is_known or name in self.expected
        return name.startswith(self._prefix) and name not in self.endpoints and is_awaited

    async def arrival(self, name: str) -> None:
        """Wait until a tool is offered."""
        while name not in self.endpoints:
            await self._changed.wait()

    async def next_list(self) -> None:
        """Wait for the next list."""
        await self._changed.wait()

    def update(self, tools: list[types.Tool]) -> None:
        """Offer what may be offered of a new list; the rest is logged, and so are changes."""
        if len(tools) > _MOST_TOOLS:
            self._log(f"it has {len(tools)} tools; the first {_MOST_TOOLS} are looked at")
        listed: dict[str, types.Tool] = {}
        for tool in tools[:_MOST_TOOLS]:
            name = name_for_model(self._prefix, tool.name)
            if _digest(listed.setdefault(name, tool)) != _digest(tool):
                self._refuse(name, tool, self._title)
        offered: dict[str, Endpoint] = {}
        for name, tool in listed.items():
            if self._is_wanted(name, tool) and self._is_unchanged(name, tool):
                endpoint = self.endpoints.get(name) or self._endpoint(name, tool)
                if endpoint is not None:
                    offered[name] = endpoint
        for name in self.endpoints.keys() - offered.keys():
            self._log(f"{name} is not offered any more")
        self._listed = listed
        self.endpoints.clear()
        self.endpoints.update(offered)
        self._changed.set()
        self._changed = asyncio.Event()

    def _is_wanted(self, name: str, tool: types.Tool) -> bool:
        wanted = self._settings.tools
        if wanted is not None and name not in wanted and tool.name not in wanted:
            return False
        owner = self._names.owner(name, self._server)
        if owner != self._title:
            self._refuse(name, tool, owner)
        return owner == self._title

    def _refuse(self, name: str, tool: types.Tool, owner: str) -> None:
        self.clashes[name] = owner
        self._log(f"{name} is a tool of {owner}: {tool.name!r} is not offered")

    def _is_unchanged(self, name: str, tool: types.Tool) -> bool:
        """Whether a definition is the first under its name, or the same; what is new may be
        another one if the settings follow changes."""
        digest, known = _digest(tool), self._digests.get(name)
        if known == digest:
            return True
        is_first = known is None and (not self.is_known or name in self.expected)
        what = "is new" if known is None else "has another definition than before"
        if not is_first and not self._settings.follow_changes:
            self._log(f"{name} {what} ({digest}): not offered, since follow_changes is not set")
            return False
        if self.is_known:
            self._log(f"{name} {what} ({digest}): offered as it is now")
        self._digests[name] = digest
        self.endpoints.pop(name, None)
        return True

    def _endpoint(self, name: str, tool: types.Tool) -> Endpoint | None:
        own = self._settings.settings
        settings = own.get(name) or own.get(tool.name) or self._settings.common()
        try:
            return self._make(name, tool, settings)
        except ValueError as error:
            self._log(f"{name} cannot be offered: {error}")
            return None

    def _log(self, message: str) -> None:
        """Each message once: lists come again and again."""
        if message not in self._logged and len(self._logged) < _MOST_MESSAGES:
            self._logged.add(message)
            log_foreign(_LOG, f"MCP server {self._server}: {message}")


def _digest(tool: types.Tool) -> str:
    seen = [tool.name, tool.title, tool.description, tool.input_schema]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:12]
