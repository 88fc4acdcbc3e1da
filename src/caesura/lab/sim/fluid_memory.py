"""Contexts that wait in the memory of a fluid engine, in tokens, and which of them give way."""

from collections import OrderedDict, defaultdict
from dataclasses import dataclass

_EVICTED_AT_ONCE = 512
"""Tokens at least, so that a full memory is not gone through token by token."""


@dataclass(slots=True)
class Resting:
    """The context of a session none of whose turns runs.

    Attributes:
        session: whose it is.
        endpoint: what is waited for.
        since: when it began to wait.
        device_tokens: its first tokens, on the device.
        host_tokens: those behind them, in host memory.
    """

    session: str
    endpoint: str | None
    since: float
    device_tokens: int
    host_tokens: int = 0


class PauseMeans:
    """How long pauses last, by endpoint; engines may share one."""

    def __init__(self) -> None:
        self._seconds: dict[str | None, float] = defaultdict(float)
        self._count: dict[str | None, int] = defaultdict(int)

    def observe(self, endpoint: str | None, seconds: float) -> None:
        """A pause was over."""
        self._seconds[endpoint] += seconds
        self._count[endpoint] += 1

    def of(self, endpoint: str | None) -> float:
        """Mean; 0 if nothing is known."""
        count = self._count[endpoint]
        return self._seconds[endpoint] / count if count else 0.0


class FluidMemory:
    """Device and host memory. What runs comes first; contexts that rest have what is left.

    Args:
        tokens: that fit the device.
        host_tokens: that fit host memory.
        means: contexts give way in the order of how long their pauses last, the longest first;
            None for the least recently used one, whatever it waits for, as in vLLM's prefix cache.

    Attributes:
        active_tokens: of turns that run.
        resting_tokens: of contexts that rest on the device.
        stored_tokens: tokens that were copied to host memory.
    """

    def __init__(self, tokens: int, host_tokens: int, means: PauseMeans | None) -> None:
        self.active_tokens = 0
        self.resting_tokens = 0
        self.stored_tokens = 0
        self._tokens = tokens
        self._host_free = host_tokens
        self._means = means
        self._resting: dict[str, Resting] = {}
        self._by_endpoint: dict[str | None, OrderedDict[str, Resting]] = {}

    @property
    def free_tokens(self) -> int:
        """Device memory that nobody has."""
        return self._tokens - self.active_tokens - self.resting_tokens

    def rest(self, context: Resting) -> None:
        """A context begins to rest."""
        self.take(context.session)
        self.resting_tokens += context.device_tokens
        self._resting[context.session] = context
        self._by_endpoint.setdefault(self._class(context), OrderedDict())[context.session] = context

    def take(self, session: str) -> Resting | None:
        """What is left of a session's context; its memory is free."""
        context = self._resting.pop(session, None)
        if context is not None:
            self._by_endpoint[self._class(context)].pop(session, None)
            self.resting_tokens -= context.device_tokens
            self._host_free += context.host_tokens
        return context

    def left_of(self, session: str) -> int:
        """Tokens of a session's context on the device."""
        context = self._resting.get(session)
        return 0 if context is None else context.device_tokens

    def make_room(self, tokens: int, of: str | None = None) -> bool:
        """Have so many tokens free, at the cost of contexts that rest, but that `of` a session;
        False if they do not fit."""
        if self._tokens - self.active_tokens - (self.left_of(of) if of else 0) < tokens:
            return False
        if self.free_tokens >= tokens:
            return True
        own = self._resting.get(of) if of else None
        order = self._by_endpoint[self._class(own)] if own is not None else {}
        aside = order.pop(of, None) if of else None
        while self.free_tokens < tokens:
            self._evict(max(tokens - self.free_tokens, _EVICTED_AT_ONCE))
        if aside is not None:
            order[aside.session] = aside
        return True

    def _evict(self, tokens: int) -> None:
        candidates = [contexts for contexts in self._by_endpoint.values() if contexts]
        if self._means is not None and len(candidates) > 1:
            mean = self._means.of
            candidates.sort(key=lambda contexts: -mean(next(iter(contexts.values())).endpoint))
        contexts = candidates[0]
        session, context = next(iter(contexts.items()))
        evicted = min(tokens, context.device_tokens)
        context.device_tokens -= evicted
        self.resting_tokens -= evicted
        if self._host_free >= evicted:
            self._host_free -= evicted
            context.host_tokens += evicted
            self.stored_tokens += evicted
        else:  # what comes behind tokens that are lost is of no use
            self._host_free += context.host_tokens
            context.host_tokens = 0
        if not context.device_tokens:
            del contexts[session]

    def _class(self, context: Resting) -> str | None:
        return None if self._means is None else context.endpoint
