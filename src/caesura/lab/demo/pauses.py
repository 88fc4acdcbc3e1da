"""`caesura demo --part pause`: a tool call as a pause, two engines side by side.

A sample of real agent sessions (tool calls, human turns) runs on stock vLLM with prefix caching and
on Caesura, in turn, on the same machine, with the same model, memory and threads. How many sessions
arrive per second is chosen for the machine: where memory is not short there is nothing to see.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from caesura.lab.bench.arm_engines import ArmEngines
from caesura.lab.bench.arms import BASELINE
from caesura.lab.bench.compare import compare, prepare_workloads, started_engines
from caesura.lab.bench.display import RunsDisplay
from caesura.lab.bench.rows import policy_rows
from caesura.lab.bench.run import comparison_results
from caesura.lab.bench.settings import BenchSettings
from caesura.lab.bench.stats import RunReport
from caesura.lab.demo.measuring import measured_load
from caesura.lab.models.noise_model import demo_model_path

OURS = "min-waste"
_GAIN = 1.05  # smaller ratios are called none


def base_settings(out: Path) -> BenchSettings:
    """What is run, but for the rate: memory so small that paused sessions compete for it."""
    return BenchSettings(
        workload="infercept-sample",
        policies=(BASELINE, OURS),
        rates=(1.0,),
        scale_tokens=0.5,
        scale_pauses=0.1,
        kv_memory_bytes=16 * 2**20,
        host_memory_bytes=2**30,
        json_path=out / "report.json",
        output_dir=out,
    )


def run_pauses(out: Path, command: str, console: Console) -> None:
    """Run the comparison and write the report.

    Args:
        out: directory for report.json, report.md and plots.
        command: the command line, to stand beside the results.
        console: where it is shown.
    """
    console.print(
        Text("A tool call as a pause", "bold"),
        ": agent sessions of the InferCept trace, each turn followed by a tool call or a human "
        "pause, on stock vLLM (each turn is a new request, prefix caching on) and on Caesura (each "
        "turn is a pause).\n",
        sep="",
    )
    path = demo_model_path(lambda message: console.print(message, style="dim"))
    console.print(f"model: a small Llama with random weights ({path.name})", style="dim")
    runs = _compared(base_settings(out), command, console)
    for sentence in outcome_sentences(runs):
        console.print(sentence, highlight=False)
    console.print(
        f"\nReport: {out / 'report.md'} (figures, plots and a timeline of pauses beside it)."
    )


def _compared(base: BenchSettings, command: str, console: Console) -> Sequence[RunReport]:
    display = RunsDisplay(console)
    publish: list[Callable[[Console], None]] = []

    async def run() -> list[RunReport]:
        factory = ArmEngines(base).start
        async with started_engines(base.policies, factory, display) as engines:
            with display.activity("measuring what sessions cost on this machine"):
                load = await measured_load(base, engines[BASELINE])
            for sentence in load.sentences():
                console.print(sentence, highlight=False)
            settings = base.model_copy(
                update={
                    "rates": (round(load.rate.per_second, 3),),
                    "sessions": load.sessions,
                    "seeds": load.seeds,
                }
            )
            results = comparison_results(settings, command)
            publish.append(results.publish)
            workloads = prepare_workloads(settings)
            await compare(settings, workloads, engines, on_outcome=results.add, display=display)
        return [outcome.report for outcome in results.outcomes]

    try:
        with display:
            return asyncio.run(run())
    finally:
        for show in publish:
            show(console)


def outcome_sentences(runs: Sequence[RunReport]) -> Iterator[str]:
    """What came of it, gain or not."""
    rows = {row.policy: row for row in policy_rows(runs)}
    stock, ours = rows.get(BASELINE), rows.get(OURS)
    if stock is None or ours is None or ours.ratio is None:
        return
    again = [
        "an unknown share" if row.recomputed_share is None else f"{row.recomputed_share:.0%}"
        for row in (stock, ours)
    ]
    computed = f"Of all tokens computed, stock computed {again[0]} again, Caesura {again[1]}."
    if ours.ratio.median >= _GAIN:
        yield (
            f"Mean latency per token is {ours.ratio.median:.1f} times lower with Caesura, at the "
            f"rate that was chosen for this machine. {computed}"
        )
    else:
        yield (
            f"Nothing was gained here: mean latency per token is {ours.ratio.median:.2f} times "
            f"lower with Caesura. {computed} Contexts that stay in memory cost stock nothing, "
            "either."
        )
