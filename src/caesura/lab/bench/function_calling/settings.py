"""What a benchmark of function calling runs."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from caesura.cml import Mode
from caesura.lab.bench.function_calling.bfcl import BFCL_SUITES, Dependencies
from caesura.lab.bench.function_calling.latencies import TYPICAL, Draw, parse_latency
from caesura.lab.bench.function_calling.plans import Order
from caesura.lab.bench.settings import ByteSize, OutputSettings

DEMO = "demo"
SUITES = (DEMO, *BFCL_SUITES)


def _known_suite(name: str) -> str:
    if name not in SUITES:
        raise ValueError(f"there is no suite {name!r}; use one of {', '.join(SUITES)}")
    return name


def _known_latency(text: str | None) -> str | None:
    if text is not None:
        parse_latency(text)
    return text


class FunctionCallingSettings(OutputSettings):
    """A comparison of modes, or of policies with many sessions at once.

    Attributes:
        suite: which cases.
        data: folder of BFCL's files; not needed for the demo's tasks.
        modes: side by side, in the order of tables.
        cases: how many.
        repetitions: of each case in each mode.
        seed: of the choice of cases and of execution times.
        latency: how long calls take; see `parse_latency`. None: `typical`, and for the demo's
            tasks what its tools take.
        order: which call is issued first among those that can be; the first is the usual one,
            and a second one is compared with it in asynchronous mode.
        dependencies: of the calls of multi-step suites.
        eager_bundles: in `sync_parallel` a call is executed at its `[END]`, instead of with its
            bundle.
        sessions: so many cases at once, in asynchronous mode, and policies compared instead of
            modes; None for one case at a time.
        policies: what is compared then.
        policy_options: numbers for the policies that have them.
        seeds: then, one run of each policy for each.
        kv_memory_bytes: device memory for KV caches.
        host_memory_bytes: host memory for copies of paused contexts.
        model: folder of a model that was made for CML; None for the bundled one.
        dtype: data type of the model.
        threads: compute threads on CPU.
    """

    suite: Annotated[str, AfterValidator(_known_suite)]
    data: Path | None = None
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = tuple(Mode)
    cases: PositiveInt = 50
    repetitions: PositiveInt = 1
    seed: NonNegativeInt = 0
    latency: Annotated[str | None, AfterValidator(_known_latency)] = None
    order: Annotated[tuple[Order, ...], Field(min_length=1)] = (Order.LONGEST_FIRST,)
    dependencies: Dependencies = Dependencies.CALLS
    eager_bundles: bool = False
    sessions: PositiveInt | None = None
    policies: tuple[str, ...] = ("min-waste", "preserve")
    policy_options: dict[str, float] = Field(default_factory=dict)
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    kv_memory_bytes: ByteSize = 64 * 2**20
    host_memory_bytes: ByteSize = 2**30
    model: str | None = None
    dtype: str = "bfloat16"
    threads: PositiveInt = 1

    @property
    def draw(self) -> Draw | None:
        """Draws execution times; None where the suite says how long its calls take."""
        if self.latency is None and self.suite == DEMO:
            return None
        return parse_latency(self.latency or TYPICAL)
