"""Results of pure tools, and one run for identical calls at the same time."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from caesura.tools.call import CallEnding

MAX_ENTRIES = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work for a call ended, for all that asked for it.

    Attributes:
        ending: how.
        content: what the model reads.
        attempts: how often the tool was run.
        cached: it was run for another call.
        cut: the content was too long.
    """

    ending: CallEnding
    content: str
    attempts: int = 0
    cached: bool = False
    cut: bool = False


def cache_key(owner: str | None, tool: str, arguments: Mapping[str, JsonValue]) -> str:
    """The same for calls that mean the same: order of keys and spelling of numbers left out.

    Args:
        owner: whose call it is; None if results are shared by all.
        tool: its name.
        arguments: its arguments.
    """
    return json.dumps([owner, tool, _normal(dict(arguments))], sort_keys=True)


def _normal(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return value


class ResultCache:
    """Successful outcomes by key, the least recently used given up first.

    Args:
        now: the clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: OrderedDict[str, tuple[float, Outcome]] = OrderedDict()
        self._under_way: dict[str, asyncio.Future[Outcome | None]] = {}

    async def outcome(
        self, key: str, keep_seconds: float, run: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        """The outcome under a key: kept, of a run under way, or of a run that starts now.

        A run that fails fails for all who wait for it, and is not kept. If its caller is
        cancelled, one of those who wait runs it again.
        """
        while True:
            kept = self._fresh(key)
            if kept is not None:
                return kept
            other = self._under_way.get(key)
            if other is None:
                return await self._run(key, keep_seconds, run)
            shared = await asyncio.shield(other)
            if shared is not None:
                return _as_shared(shared)

    async def _run(
        self, key: str, keep_seconds: float, run: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        future: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self._under_way[key] = future
        outcome: Outcome | None = None
        try:
            outcome = await run()
        finally:
            del self._under_way[key]
            future.set_result(outcome)
        if outcome.ending is CallEnding.SUCCEEDED:
            self._keep(key, self._now() + keep_seconds, outcome)
        return outcome

    def _fresh(self, key: str) -> Outcome | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        until, outcome = kept
        if until <= self._now():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return _as_shared(outcome)

    def _keep(self, key: str, until: float, outcome: Outcome) -> None:
        self._kept[key] = (until, outcome)
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_ENTRIES:
            self._kept.popitem(last=False)


def _as_shared(outcome: Outcome) -> Outcome:
    if outcome.ending is not CallEnding.SUCCEEDED:
        return outcome
    return replace(outcome, attempts=0, cached=True)
