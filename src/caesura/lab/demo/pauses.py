"""`caesura demo --part pause`: a tool call as a pause, two engines side by side.

A sample of real agent sessions (tool calls, human turns) runs on stock vLLM with prefix
caching and on Caesura, in turn, on the same CPU, with the same model, memory and threads.
"""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from caesura.lab.bench.arm_engines import ArmEngines
from caesura.lab.bench.run import run_bench
from caesura.lab.bench.settings import BenchSettings
from caesura.lab.models.noise_model import demo_model_path

POLICIES = ("stock", "min-waste")


def pause_settings(out: Path) -> BenchSettings:
    """What is run: memory so small that paused sessions compete for it."""
    return BenchSettings(
        workload="infercept-sample",
        policies=POLICIES,
        rates=(2.0,),
        seeds=(0,),
        sessions=50,
        scale_tokens=0.5,
        scale_pauses=0.2,
        kv_memory_bytes=32 * 2**20,
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
    settings = pause_settings(out)
    run_bench(settings, ArmEngines(settings).start, command=command, console=console)
    console.print(
        f"\nReport: {out / 'report.md'} (figures, plots and a timeline of pauses beside it)."
    )
