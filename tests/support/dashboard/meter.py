"""The engine's metrics as a small device would give them, worked out from sessions."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from caesura.server.dashboard.engine_numbers import GAUGES, KV_USAGE, RUNNING, WAITING
from caesura.session.agent import Agent
from caesura.session.records import Phase

DEVICE_TOKENS, HOST_TOKENS = 60_000, 24_000
TOKENS_PER_BYTE = 9
RUNNING_LIMIT = 6
TOTALS = ("held_tokens", "loaded_tokens", "recomputed_tokens")
BY_ENDPOINT = ("pauses", "returns", "predicted_seconds", "returned_seconds")
FIRST_GUESS_SECONDS = 10.0


@dataclass
class Context:
    """A paused context; `place` is held, loaded (from host memory, later) or recomputed."""

    tokens: int
    endpoint: str
    since_seconds: float
    place: str = "held"


class EngineMeter:
    """Counts what an engine would: the longest paused context gives way first."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._paused: dict[str, Context] = {}
        self._learned: dict[str, float] = {}
        self._gauges = {n: Gauge(f"caesura:{n}", n, registry=registry) for n in GAUGES}
        self._totals = {n: Counter(f"caesura:{n}", n, registry=registry) for n in TOTALS}
        self._by_endpoint = {
            n: Counter(f"caesura:{n}", n, ["endpoint"], registry=registry) for n in BY_ENDPOINT
        }
        self._running = Gauge(RUNNING, "", registry=registry)
        self._waiting = Gauge(WAITING, "", registry=registry)
        self._usage = Gauge(KV_USAGE, "", registry=registry)

    def step(self, agents: Sequence[Agent]) -> None:
        """Look at the sessions again."""
        generating = [a for a in agents if a.phase is Phase.GENERATING and not a.held]
        paused = [a for a in agents if a not in generating and a.phase is not Phase.ENDED]
        for agent in paused:
            if agent.id not in self._paused:
                self._begin(agent)
        returned = [a.id for a in generating if a.id in self._paused]
        for session_id in returned:
            self._end(self._paused.pop(session_id))
        known = {agent.id for agent in paused}
        self._paused = {key: c for key, c in self._paused.items() if key in known}
        running = generating[:RUNNING_LIMIT]
        active_tokens = sum(_tokens(agent) for agent in running)
        self._give_way(DEVICE_TOKENS - active_tokens)
        self._publish(len(running), len(generating) - len(running), active_tokens, len(returned))

    def _begin(self, agent: Agent) -> None:
        endpoint = "client" if agent.phase is Phase.IDLE else _endpoint(agent)
        self._paused[agent.id] = Context(_tokens(agent), endpoint, self._clock())
        self._by_endpoint["pauses"].labels(endpoint).inc()

    def _end(self, context: Context) -> None:
        self._totals[f"{context.place}_tokens"].inc(context.tokens)
        seconds = self._clock() - context.since_seconds
        expected = self._learned.get(context.endpoint, FIRST_GUESS_SECONDS)
        self._by_endpoint["returns"].labels(context.endpoint).inc()
        self._by_endpoint["predicted_seconds"].labels(context.endpoint).inc(expected)
        self._by_endpoint["returned_seconds"].labels(context.endpoint).inc(seconds)
        self._learned[context.endpoint] = expected + 0.3 * (seconds - expected)

    def _give_way(self, room_tokens: int) -> None:
        for context in sorted(self._paused.values(), key=lambda c: c.since_seconds):
            if self._sum("held") <= room_tokens:
                return
            if context.place == "held":
                fits = self._sum("loaded") + context.tokens <= HOST_TOKENS
                context.place = "loaded" if fits else "recomputed"

    def _sum(self, place: str) -> int:
        return sum(c.tokens for c in self._paused.values() if c.place == place)

    def _publish(self, running: int, waiting: int, active_tokens: int, returned: int) -> None:
        places = [context.place for context in self._paused.values()]
        values = {
            "pauses_now": len(places),
            "holding_now": places.count("held"),
            "copied_now": places.count("loaded"),
            "held_tokens_now": self._sum("held"),
            "host_tokens_now": self._sum("loaded"),
            "returning_now": min(returned, waiting),
            "device_tokens": DEVICE_TOKENS,
            "host_tokens": HOST_TOKENS,
        }
        for name, gauge in self._gauges.items():
            gauge.set(values[name])
        self._running.set(running)
        self._waiting.set(waiting)
        self._usage.set((active_tokens + self._sum("held")) / DEVICE_TOKENS)


def _tokens(agent: Agent) -> int:
    return TOKENS_PER_BYTE * len(agent.transcript)


def _endpoint(agent: Agent) -> str:
    called = re.findall(rb"<<(\w+)", bytes(agent.transcript))
    return called[-1].decode() if called else "client"
