"""The engine's numbers, read from the registry behind `/metrics`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
KV_USAGE = "vllm:kv_cache_usage_perc"
GAUGES = (
    "pauses_now",
    "holding_now",
    "copied_now",
    "held_tokens_now",
    "host_tokens_now",
    "returning_now",
    "device_tokens",
    "host_tokens",
    "tokens_in_charge",
)
_COUNTERS = (
    "pauses",
    "pause_endings",
    "hold_endings",
    "interrupts",
    "displacements",
    "held_tokens",
    "loaded_tokens",
    "recomputed_tokens",
    "copied_tokens",
    "device_token_seconds",
    "waste_token_seconds",
    "returns",
    "predicted_seconds",
    "returned_seconds",
)
_TOOL_COUNTERS = ("caesura_tool_calls", "caesura_tool_retries", "caesura_tool_cache_hits")
_TOOL_SECONDS = "caesura_tool_seconds"


@dataclass(frozen=True, slots=True)
class EndpointNumbers:
    """Pauses for one endpoint.

    Attributes:
        endpoint: what they waited for.
        pauses: begun so far.
        returns: those that came back and whose duration was predicted.
        predicted_mean_seconds, actual_mean_seconds: of these; None while there are none.
    """

    endpoint: str
    pauses: int
    returns: int
    predicted_mean_seconds: float | None
    actual_mean_seconds: float | None


@dataclass(frozen=True, slots=True)
class ToolNumbers:
    """Calls of one tool.

    Attributes:
        name: the tool.
        calls: by ending.
        mean_seconds: from a call to its result; None before the first.
        retries: repeated attempts.
        cache_hits: calls that another call's result served.
    """

    name: str
    calls: Mapping[str, int]
    mean_seconds: float | None
    retries: int
    cache_hits: int


@dataclass(frozen=True, slots=True)
class OneEngine:
    """One engine of the server (data parallel).

    Attributes:
        engine: its number, as metrics have it.
        running, waiting, pauses: as in `EngineNumbers`.
        tokens_in_charge: of all that runs, waits or is paused.
        device_tokens, used_tokens: what device memory has room for, and what is in use.
    """

    engine: str
    running: int
    waiting: int
    pauses: int
    tokens_in_charge: int
    device_tokens: int
    used_tokens: int


@dataclass(frozen=True, slots=True)
class EngineNumbers:
    """One engine, or the sum of several.

    Attributes:
        running, waiting: requests that generate, and that wait in the queue.
        returning: sessions among the waiting ones whose pause is over.
        pauses: paused contexts, which are `holding` device blocks, or `copied` to host memory,
            or `dropped`.
        device_tokens: what device memory has room for; 0 until the engine has said so.
        active_tokens, held_tokens: what running requests and paused contexts take of it.
        host_tokens, host_used_tokens: what host memory has room for, and what is copied there.
        found_tokens_total, loaded_tokens_total, recomputed_tokens_total: tokens of returning
            contexts that were on the device, were loaded, were computed again.
        copied_tokens_total: tokens copied to host memory.
        device_token_seconds_total: device memory x time, of which these were of no use:
            held_token_seconds_total, kept by paused contexts,
            recomputed_token_seconds_total, idle while tokens were computed again, and
            copied_token_seconds_total, idle for copies.
        interrupts_total: interrupts injected into generations.
        displacements_total: running requests that gave way to a session ranked before them.
        pause_endings, hold_endings: by how.
        endpoints: what pauses wait for, those with most pauses first.
        engines: each of them.
    """

    running: int
    waiting: int
    returning: int
    pauses: int
    holding: int
    copied: int
    dropped: int
    device_tokens: int
    active_tokens: int
    held_tokens: int
    host_tokens: int
    host_used_tokens: int
    found_tokens_total: int
    loaded_tokens_total: int
    recomputed_tokens_total: int
    copied_tokens_total: int
    device_token_seconds_total: float
    held_token_seconds_total: float
    recomputed_token_seconds_total: float
    copied_token_seconds_total: float
    interrupts_total: int
    displacements_total: int
    pause_endings: Mapping[str, int]
    hold_endings: Mapping[str, int]
    endpoints: tuple[EndpointNumbers, ...]
    engines: tuple[OneEngine, ...]


class _Samples:
    def __init__(self, registry: CollectorRegistry, names: Iterable[str]) -> None:
        families = registry.restricted_registry(names).collect()
        self._samples: list[Sample] = [sample for family in families for sample in family.samples]

    def has(self, prefix: str) -> bool:
        return any(sample.name.startswith(prefix) for sample in self._samples)

    def total(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def by(self, label: str, name: str, **labels: str) -> dict[str, int]:
        totals: dict[str, int] = {}
        for sample in self._samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                value = sample.labels[label]
                totals[value] = totals.get(value, 0) + int(sample.value)
        return totals


def read_engine(registry: CollectorRegistry) -> EngineNumbers | None:
    """The engine's numbers as they are now; None if no engine with Caesura has reported yet."""
    names = [RUNNING, WAITING, KV_USAGE, *(f"caesura:{gauge}" for gauge in GAUGES)]
    samples = _Samples(registry, [*names, *(f"caesura:{counter}_total" for counter in _COUNTERS)])
    if not samples.has("caesura:"):
        return None

    def now(gauge: str) -> int:
        return int(samples.total(f"caesura:{gauge}"))

    def total(counter: str) -> int:
        return int(samples.total(f"caesura:{counter}_total"))

    def wasted(cause: str) -> float:
        return samples.total("caesura:waste_token_seconds_total", cause=cause)

    engines = _engines(samples)
    used_tokens = sum(engine.used_tokens for engine in engines)
    return EngineNumbers(
        running=int(samples.total(RUNNING)),
        waiting=int(samples.total(WAITING)),
        returning=now("returning_now"),
        pauses=now("pauses_now"),
        holding=now("holding_now"),
        copied=now("copied_now"),
        dropped=max(0, now("pauses_now") - now("holding_now") - now("copied_now")),
        device_tokens=now("device_tokens"),
        active_tokens=max(0, used_tokens - now("held_tokens_now")),
        held_tokens=now("held_tokens_now"),
        host_tokens=now("host_tokens"),
        host_used_tokens=now("host_tokens_now"),
        found_tokens_total=total("held_tokens"),
        loaded_tokens_total=total("loaded_tokens"),
        recomputed_tokens_total=total("recomputed_tokens"),
        copied_tokens_total=total("copied_tokens"),
        device_token_seconds_total=samples.total("caesura:device_token_seconds_total"),
        held_token_seconds_total=wasted("held"),
        recomputed_token_seconds_total=wasted("recomputed"),
        copied_token_seconds_total=wasted("copied"),
        interrupts_total=total("interrupts"),
        displacements_total=total("displacements"),
        pause_endings=samples.by("ending", "caesura:pause_endings_total"),
        hold_endings=samples.by("ending", "caesura:hold_endings_total"),
        endpoints=_endpoints(samples),
        engines=engines,
    )


def read_tools(registry: CollectorRegistry, names: Iterable[str]) -> tuple[ToolNumbers, ...]:
    """The numbers of tools, in the order of their names.

    Args:
        registry: where the calls are counted.
        names: all tools that there are; one that was never called is listed too.
    """
    samples = _Samples(
        registry,
        [
            *(f"{counter}_total" for counter in _TOOL_COUNTERS),
            f"{_TOOL_SECONDS}_sum",
            f"{_TOOL_SECONDS}_count",
        ],
    )
    return tuple(_tool(samples, name) for name in sorted(names))


def _engines(samples: _Samples) -> tuple[OneEngine, ...]:
    def numbers(engine: str) -> OneEngine:
        def now(name: str) -> float:
            return samples.total(name, engine=engine)

        device_tokens = int(now("caesura:device_tokens"))
        return OneEngine(
            engine=engine,
            running=int(now(RUNNING)),
            waiting=int(now(WAITING)),
            pauses=int(now("caesura:pauses_now")),
            tokens_in_charge=int(now("caesura:tokens_in_charge")),
            device_tokens=device_tokens,
            used_tokens=int(now(KV_USAGE) * device_tokens),
        )

    numbered = samples.by("engine", "caesura:device_tokens")
    return tuple(numbers(engine) for engine in sorted(numbered, key=lambda n: (len(n), n)))


def _endpoints(samples: _Samples) -> tuple[EndpointNumbers, ...]:
    pauses = samples.by("endpoint", "caesura:pauses_total")

    def numbers(endpoint: str) -> EndpointNumbers:
        def total(counter: str) -> float:
            return samples.total(f"caesura:{counter}_total", endpoint=endpoint)

        returns = int(total("returns"))
        return EndpointNumbers(
            endpoint=endpoint,
            pauses=pauses[endpoint],
            returns=returns,
            predicted_mean_seconds=total("predicted_seconds") / returns if returns else None,
            actual_mean_seconds=total("returned_seconds") / returns if returns else None,
        )

    return tuple(numbers(endpoint) for endpoint, _ in Counter(pauses).most_common())


def _tool(samples: _Samples, name: str) -> ToolNumbers:
    count = samples.total(f"{_TOOL_SECONDS}_count", tool=name)
    seconds = samples.total(f"{_TOOL_SECONDS}_sum", tool=name)
    return ToolNumbers(
        name=name,
        calls=samples.by("ending", "caesura_tool_calls_total", tool=name),
        mean_seconds=seconds / count if count else None,
        retries=int(samples.total("caesura_tool_retries_total", tool=name)),
        cache_hits=int(samples.total("caesura_tool_cache_hits_total", tool=name)),
    )
