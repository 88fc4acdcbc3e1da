"""Engines of a comparison that compute nothing."""

from caesura.lab.bench.engines import EngineCounters
from support.engines.fakes import VOCAB_SIZE, FakeEngine


class FakeRunningEngine:
    """Counts what the fake computed since the last reset, in place: nothing twice."""

    vocab_size = VOCAB_SIZE

    def __init__(self, policy: str, max_context_tokens: int = 10_000) -> None:
        self.policy = policy
        self.max_context_tokens = max_context_tokens
        self.tokens = FakeEngine()
        self.resets = 0
        self.shutdowns = 0

    async def reset(self) -> None:
        assert not self.tokens.open_ids
        self.resets += 1
        self.tokens.streams.clear()

    async def counters(self) -> EngineCounters:
        streams = self.tokens.streams.values()
        return EngineCounters(
            scheduled_tokens=sum(len(stream.transcript) - 1 for stream in streams),
            pauses=sum(len(stream.endpoints) - 1 for stream in streams),
        )

    async def shutdown(self) -> None:
        self.shutdowns += 1


class Fleet:
    """A factory that remembers the engines it started."""

    def __init__(self, max_context_tokens: int = 10_000, fail_at: str | None = None) -> None:
        self.engines: dict[str, FakeRunningEngine] = {}
        self._max_context_tokens = max_context_tokens
        self._fail_at = fail_at

    async def __call__(self, policy: str) -> FakeRunningEngine:
        if policy == self._fail_at:
            raise RuntimeError(f"{policy} cannot start")
        engine = self.engines[policy] = FakeRunningEngine(policy, self._max_context_tokens)
        return engine

    def all_shut_down_once(self) -> bool:
        return all(engine.shutdowns == 1 for engine in self.engines.values())
