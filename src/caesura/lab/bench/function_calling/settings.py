"""What a benchmark of function calling runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from cyclopts import Parameter
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from caesura.lab.bench.function_calling.bfcl import BFCL_SUITES, Dependencies
from caesura.lab.bench.function_calling.latencies import TYPICAL, Draw, parse_latency
from caesura.lab.bench.function_calling.plans import IssueOrder
from caesura.lab.bench.function_calling.styles import USUAL_STYLES, Style
from caesura.lab.bench.settings import DEMO, ModelName, SettingsOfRuns
from caesura.lab.settings import ENGINE, ByteSize, Distinct, Listed

SUITES = (DEMO, *BFCL_SUITES)


def _known_suite(name: str) -> str:
    if name not in SUITES:
        raise ValueError(f"there is no suite {name!r}; use one of {', '.join(SUITES)}")
    return name


def _known_latency(text: str | None) -> str | None:
    if text is not None:
        parse_latency(text)
    return text


class FunctionCallingSettings(SettingsOfRuns):
    """A comparison of modes, or of policies with many sessions at once.

    Attributes:
        suite: What is asked: demo, bfcl-parallel, bfcl-multi-step, bfcl-multi-step-parallel,
            bfcl-first-turns.
        data: Folder of BFCL v4's JSONL files; not needed for demo.
        modes: Side by side, in the order of tables: requests (each call ends a request to stock
            vLLM over HTTP), sync, sync_parallel, async, futures (the model's own format); and
            sync_parallel_eager, sync_fused, sync_cached, each with one more optimisation of sync.
        cases: Cases of the suite.
        repetitions: Of each case in each mode.
        seed: Of the choice of cases and of execution times.
        latency: Execution times of calls: typical or paper (30 to 500 ms, mean 110), longtail,
            or uniform:A:B in seconds. Default: typical; of demo, what its tools take.
        order: Which call is issued first among those that can be: longest-first, random. With
            both, async runs in both orders.
        dependencies: Of multi-step suites: calls (each call needs the one before) or steps (calls
            of one step are independent).
        eager_bundles: In sync_parallel, execute a call at its end instead of with its bundle.
        sessions: So many cases at once, in async mode, and policies compared instead of modes.
        policies: What is compared with --sessions.
        seeds: With --sessions: one run of each policy for each.
        model: Folder of a model that was made for CML. By default, or as demo: the bundled one, or
            for BFCL one with random weights.
        dtype: Data type of the model.
        threads: Compute threads on CPU.
    """

    suite: Annotated[str, AfterValidator(_known_suite)] = DEMO
    data: Path | None = None
    modes: Distinct[Style] = USUAL_STYLES
    cases: PositiveInt = 50
    repetitions: PositiveInt = 1
    seed: NonNegativeInt = 0
    latency: Annotated[str | None, AfterValidator(_known_latency)] = None
    order: Annotated[Listed[IssueOrder], Field(min_length=1)] = (IssueOrder.LONGEST_FIRST,)
    dependencies: Dependencies = Dependencies.CALLS
    eager_bundles: Annotated[bool, Parameter(negative=())] = False
    sessions: PositiveInt | None = None
    policies: Distinct[str] = ("min-waste", "preserve")
    model: Annotated[ModelName, Parameter(group=ENGINE)] = None
    kv_memory_bytes: Annotated[ByteSize, Parameter(group=ENGINE)] = 32 * 2**20
    host_memory_bytes: Annotated[ByteSize, Parameter(group=ENGINE)] = 2**30
    dtype: Annotated[str, Parameter(group=ENGINE)] = "bfloat16"
    threads: Annotated[PositiveInt, Parameter(group=ENGINE)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        foreign = [style for style in self.modes if not style.in_cml]
        if self.suite == DEMO and foreign:
            raise ValueError(
                f"the demo's model writes CML only, and {foreign[0]} is another format: use "
                f"--suite {BFCL_SUITES[0]}"
            )
        return self

    @property
    def styles(self) -> Sequence[Style]:
        """The modes; with `eager_bundles` what `sync_parallel` stands for."""
        if not self.eager_bundles:
            return self.modes
        eager = {Style.SYNC_PARALLEL: Style.SYNC_PARALLEL_EAGER}
        return [eager.get(style, style) for style in self.modes]

    @property
    def draw(self) -> Draw | None:
        """Draws execution times; None where the suite says how long its calls take."""
        if self.latency is None and self.suite == DEMO:
            return None
        return parse_latency(self.latency or TYPICAL)
