"""Contexts that wait in the memory of a fluid engine, in tokens, and which of them give way."""

from collections import OrderedDict, defaultdict
from dataclasses import dataclass

from caesura.lab.sim.fluid_experience import Experience

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


class FluidMemory:
    """Device and host memory. What runs comes first; contexts that rest have what is left.

    Args:
        tokens: that fit the device.
        host_tokens: that fit host memory.
        experience: contexts give way in the order of how long their pauses last, the longest
            first; None for the least recently used one, as in vLLM's prefix cache.

    Attributes:
        active_tokens: of turns that run.
        resting_tokens: of contexts that rest on the device.
        stored_tokens: tokens that were copied to host memory.
    """

    def __init__(self, tokens: int, host_tokens: int, experience: Experience | None) -> None:
        self.active_tokens = 0
        self.resting_tokens = 0
        self.stored_tokens = 0
        self._tokens = tokens
        self._host_free = host_tokens
        self._experience = experience
        self._resting: dict[str, Resting] = {}
        self._by_endpoint: dict[str | None, OrderedDict[str, Resting]] = {}
        self._tokens_of: dict[str | None, int] = defaultdict(int)

    @property
    def free_tokens(self) -> int:
        """Device memory that nobody has."""
        return self._tokens - self.active_tokens - self.resting_tokens

    def rest(self, context: Resting) -> None:
        """A context begins to rest."""
        self.take(context.session)
        self.resting_tokens += context.device_tokens
        self._resting[context.session] = context
        kind = self._class(context)
        self._by_endpoint.setdefault(kind, OrderedDict())[context.session] = context
        self._tokens_of[kind] += context.device_tokens

    def take(self, session: str) -> Resting | None:
        """What is left of a session's context; its memory is free."""
        context = self._resting.pop(session, None)
        if context is not None:
            kind = self._class(context)
            self._by_endpoint[kind].pop(session, None)
            self._tokens_of[kind] -= context.device_tokens
            self.resting_tokens -= context.device_tokens
            self._host_free += context.host_tokens
        return context

    def paused(self, session: str, now: float) -> tuple[str | None, float]:
        """What a session that returns has waited for, and for how long."""
        context = self._resting[session]
        return context.endpoint, now - context.since

    def left_of(self, session: str) -> int:
        """Tokens of a session's context on the device."""
        context = self._resting.get(session)
        return 0 if context is None else context.device_tokens

    def make_room(self, tokens: int, of: str | None = None, shortest_pause: float = 0.0) -> bool:
        """Have so many tokens free, at the cost of contexts that rest.

        Args:
            tokens: how many.
            of: a session whose own context stays.
            shortest_pause: contexts whose pauses last less on average do not give way, unless host
                memory takes them.

        Returns:
            False if so many cannot be had; then nothing has changed.
        """
        missing = tokens - self.free_tokens
        if missing <= 0:
            return True
        own = self._resting.get(of) if of else None
        kind = self._class(own) if own is not None else None
        own_tokens = 0 if own is None else own.device_tokens
        kept = sum(n for one, n in self._tokens_of.items() if self._pause(one) < shortest_pause)
        if own is not None and self._pause(kind) < shortest_pause:
            kept -= own_tokens
        if self.resting_tokens - own_tokens - max(0, kept - self._host_free) < missing:
            return False
        if own is not None:
            self._by_endpoint[kind].pop(own.session, None)
        while self.free_tokens < tokens:
            self._evict(max(tokens - self.free_tokens, _EVICTED_AT_ONCE))
        if own is not None and own.device_tokens:
            self._by_endpoint[kind][own.session] = own
        return True

    def _evict(self, tokens: int) -> None:
        kind = max(
            (one for one, contexts in self._by_endpoint.items() if contexts), key=self._pause
        )
        contexts = self._by_endpoint[kind]
        session, context = next(iter(contexts.items()))
        evicted = min(tokens, context.device_tokens)
        context.device_tokens -= evicted
        self.resting_tokens -= evicted
        self._tokens_of[kind] -= evicted
        if self._host_free >= evicted:
            self._host_free -= evicted
            context.host_tokens += evicted
            self.stored_tokens += evicted
        else:  # what comes behind tokens that are lost is of no use
            self._host_free += context.host_tokens
            context.host_tokens = 0
        if not context.device_tokens:
            del contexts[session]
            if self._experience is None and not context.host_tokens:  # nobody asks about it
                del self._resting[session]

    def _pause(self, kind: str | None) -> float:
        return 0.0 if self._experience is None else self._experience.pause_seconds(kind)

    def _class(self, context: Resting) -> str | None:
        return None if self._experience is None else context.endpoint
