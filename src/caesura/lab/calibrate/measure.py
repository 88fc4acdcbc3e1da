"""Measure what this machine takes with a model: iterations of the real engine, and copies.

The engine is configured as `launch.py` does, with Caesura's scheduler and connector, and is
stepped with batches of known composition.
"""

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from caesura.engine.serving.launch import EngineSettings
from caesura.errors import ConfigurationError
from caesura.lab.calibrate.iteration_fit import (
    IterationSample,
    Saturation,
    find_saturation,
    fit_iterations,
    fit_line,
)
from caesura.lab.calibrate.vllm_timed_engine import TimedEngine
from caesura.policy.profile import DeviceProfile

DECODE_STEPS = 12
DECODE_BATCHES = (1, 4, 16, 64, 256)
# One token more than full blocks: when such a prompt is sent again, one token of it is computed.
DECODE_CONTEXTS = (17, 129, 513, 2049, 8193, 32769)
CHUNKS_AFTER_CONTEXT = 8
ROOM = 0.95  # of the KV memory, so that no request is preempted
MIN_ROUNDS = 2
MIN_REPEATS = 2
SHARE_OF_ONE_LOAD = 0.1  # of the time for measuring
COPY_REPEATS = 9
COPY_SIZES = (64, 16, 4, 2, 1)  # the largest batch, divided by these
DEFAULT_LINK_BYTES_PER_SECOND = 5e9  # where copies were not measured: NumPy rows on one core


@dataclass(frozen=True, slots=True)
class CopySample:
    """Copies of one size; `seconds` is a median."""

    out: bool
    num_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Requests that start together."""

    requests: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured, and the profile made of it.

    Attributes:
        profile: the figures.
        saturation: the saturation point and how it was found.
        samples: iterations that the figures were fitted to.
        checks: iterations that they were not: several prompts at once, prompts beside decoding.
        copies: copies of the real backend over the real KV cache; empty without host memory.
    """

    profile: DeviceProfile
    saturation: Saturation
    samples: Sequence[IterationSample]
    checks: Sequence[IterationSample]
    copies: Sequence[CopySample]


def calibrate(
    settings: EngineSettings,
    *,
    device: str,
    model: str,
    seconds: float = 20.0,
    progress: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Start an engine in this process, measure, and stop it. Once per process.

    Args:
        settings: the engine; with host memory for copies, or the link is not measured.
        device: name of the device in the profile.
        model: name of the model in the profile.
        seconds: how long iterations are measured, about; at least two rounds.
        progress: called with a line for people.

    Raises:
        ConfigurationError: not an engine with Caesura, or it has too little KV memory.
        ValueError: what was measured gives no profile.
    """
    if settings.caesura is None:
        raise ConfigurationError("a calibration needs an engine with Caesura")
    progress("starting the engine")
    engine = TimedEngine(settings)
    try:
        if engine.max_tokens < 2 * settings.block_size:
            raise ConfigurationError("too little KV memory to measure anything: give more")
        progress("warming up")
        warm_up(engine)
        progress(f"measuring iterations, about {seconds:.0f} s")
        samples, checks = measure_iterations(engine, seconds)
        progress("measuring copies")
        copies = measure_copies(engine)
    finally:
        engine.shutdown()
    figures, defaults = fit_iterations(samples)
    first_chunks = [s for s in samples if s.sequences == 1 and s.context_tokens == s.query_tokens]
    saturation = find_saturation(first_chunks, figures)
    link = DEFAULT_LINK_BYTES_PER_SECOND
    if copies:
        link = 1 / statistics.mean(1 / copy_bandwidth(copies, out) for out in (True, False))
    else:
        defaults |= {"link_bytes_per_second"}
    profile = DeviceProfile(
        name=device,
        model=model,
        measured=True,
        saturation_tokens=saturation.tokens,
        kv_bytes_per_token=engine.block_bytes // settings.block_size,
        link_bytes_per_second=link,
        link_overlaps=torch.cuda.is_available(),
        defaults=defaults,
        **figures,
    )
    return Calibration(profile, saturation, samples, checks, copies)


def warm_up(engine: TimedEngine) -> None:
    """Run every kernel and every size once, so that nothing is measured for the first time."""
    for load in prefills(engine):
        run(engine, load)
    run(engine, RequestGroup(min(16, engine.settings.max_num_seqs, engine.num_blocks), 4, 4))


def run(engine: TimedEngine, load: RequestGroup) -> list[IterationSample]:
    """Compute the prompts; then, where there is more to generate, send them again.

    They are found in the prefix cache then, so that all requests decode together from the start.
    """
    prompts = engine.prompts(load.requests, load.prompt_tokens)
    timed = engine.run(prompts, 1)
    if load.output_tokens > 1:
        timed += engine.run(prompts, load.output_tokens)
    return timed


def measure_iterations(
    engine: TimedEngine, seconds: float
) -> tuple[list[IterationSample], list[IterationSample]]:
    """Samples to fit and samples to check, medians over interleaved rounds."""
    groups: dict[tuple[bool, int, int, int, float], list[IterationSample]] = defaultdict(list)
    until = time.perf_counter() + seconds
    *_, longest = prefills(engine)
    per_token = min(run(engine, longest)[0].seconds for _ in range(2)) / longest.prompt_tokens
    affordable = max(longest.prompt_tokens, SHARE_OF_ONE_LOAD * seconds / per_token)
    loads = [*prefills(engine), *prefills(engine), *decodings(engine), longest_prompt(engine)]
    loads = [load for load in loads if load.requests * load.prompt_tokens <= affordable]
    for done in itertools.count(1):
        started = time.perf_counter()
        for load in loads:
            for timed in run(engine, load):
                groups[_kind(load, timed)].append(timed)
        now = time.perf_counter()
        if done >= MIN_ROUNDS and now + (now - started) > until:
            break
    samples: dict[bool, list[IterationSample]] = {True: [], False: []}
    for kind, group in groups.items():
        if len(group) >= MIN_REPEATS:
            samples[kind[0]].append(_median(group))
    return samples[True], samples[False]


def prefills(engine: TimedEngine) -> Iterator[RequestGroup]:
    """Single chunks of 1 to `max_num_batched_tokens` tokens, smallest first."""
    longest = min(engine.settings.max_num_batched_tokens, engine.max_tokens - 2)
    sizes = {1, longest}
    for exponent in range(4, 20):
        sizes |= {2**exponent, 3 * 2 ** (exponent - 1)}
    for size in sorted(size for size in sizes if size <= longest):
        yield RequestGroup(1, size, 1)


def decodings(engine: TimedEngine) -> Iterator[RequestGroup]:
    """Several batch sizes, each at the contexts for which there is room."""
    block_size = engine.settings.block_size
    for requests, context in itertools.product(DECODE_BATCHES, DECODE_CONTEXTS):
        tokens = context + DECODE_STEPS + 1
        fits = requests * -(-tokens // block_size) <= ROOM * engine.num_blocks
        if fits and requests <= engine.settings.max_num_seqs and tokens < engine.max_tokens:
            yield RequestGroup(requests, context, DECODE_STEPS + 1)


def longest_prompt(engine: TimedEngine) -> RequestGroup:
    """Full chunks after longer and longer contexts."""
    chunks = CHUNKS_AFTER_CONTEXT * engine.settings.max_num_batched_tokens
    return RequestGroup(1, min(engine.max_tokens - 2, chunks), 1)


def measure_copies(engine: TimedEngine) -> list[CopySample]:
    """Batches of the connector's own backend over the real KV cache, both ways."""
    assert engine.settings.caesura is not None
    budget_blocks = engine.settings.caesura.copy_budget // engine.block_bytes
    largest = min(engine.num_slots, budget_blocks, engine.num_blocks)
    if largest == 0:
        return []
    sizes = sorted({max(1, largest // part) for part in COPY_SIZES})
    times: dict[tuple[int, bool], list[float]] = {
        kind: [] for kind in itertools.product(sizes, (True, False))
    }
    engine.touch_host_memory()
    for _ in range(1 + COPY_REPEATS):
        for (size, out), seconds in times.items():
            seconds.append(engine.copy(size, out))
    return [
        CopySample(out, size * engine.block_bytes, statistics.median(seconds[1:]))
        for (size, out), seconds in times.items()
    ]


def copy_bandwidth(copies: Sequence[CopySample], out: bool) -> float:
    """Bytes per second of one direction, beside a fixed time per batch.

    Raises:
        ValueError: larger copies did not take longer.
    """
    chosen = [copy for copy in copies if copy.out == out]
    _, per_byte = fit_line([c.num_bytes for c in chosen], [c.seconds for c in chosen])
    if per_byte <= 0:
        raise ValueError(
            "copies do not take longer with their size: the machine was too busy; calibrate again"
        )
    return 1 / per_byte


def _kind(load: RequestGroup, timed: IterationSample) -> tuple[bool, int, int, int, float]:
    """What iterations that are repeats of each other have in common; first, whether it is what
    the load is for: one prompt alone, or all of its requests decoding.

    Decoding at one context is one composition, though the context grows with each iteration;
    prefilling is told apart by its pairs.
    """
    meant = timed.sequences == load.requests and (timed.decodes or load.requests == 1)
    context = load.prompt_tokens if timed.decodes else 0
    return meant, context, timed.query_tokens, timed.sequences, timed.attention_pairs


def _median(group: Sequence[IterationSample]) -> IterationSample:
    first = group[0]
    return IterationSample(
        query_tokens=first.query_tokens,
        context_tokens=statistics.mean(timed.context_tokens for timed in group),
        sequences=first.sequences,
        attention_pairs=first.attention_pairs,
        seconds=statistics.median(timed.seconds for timed in group),
        repeats=len(group),
    )
