"""`caesura bench`."""

from typing import Annotated

from cyclopts import App

from caesura.cli.extras import Extra, require
from caesura.cli.options import FLATTENED, command_line, examples
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.http.settings import HttpSettings
from caesura.lab.bench.settings import BenchSettings

app = App(
    "bench",
    help_epilogue=examples(
        "caesura bench --policies stock,swap,min-waste --rate 1.2,2.0 --json out/bench.json",
        "caesura bench calls --modes sync,async --cases 20",
        "caesura bench http --base-url http://127.0.0.1:8000 --names stock",
    ),
)


@app.default
def bench(*, settings: Annotated[BenchSettings | None, FLATTENED] = None) -> None:
    """Replay a workload on the real engine, policies side by side and interleaved.

    Agent sessions of a trace arrive, generate, pause for as long as their tools took, and go on.
    The replay is a closed loop: each turn starts when the pause after the turn before is over. A
    table compares the policies; --json and --out keep the figures and draw them.
    """
    require(Extra.LAB)
    from caesura.cli.extras import require_model
    from caesura.lab.bench.arm_engines import ArmEngines
    from caesura.lab.bench.run import run_bench

    settings = settings or BenchSettings()
    if settings.model is not None:
        settings = settings.model_copy(update={"model": require_model(settings.model)})
    run_bench(settings, ArmEngines(settings).start, command=command_line())


calls = App(
    "calls",
    help_epilogue=examples(
        "caesura bench calls --modes sync,async --cases 20",
        "caesura bench calls --suite bfcl-parallel --data bfcl --json out/calls.json",
    ),
)
app.command(calls)


@calls.default
def bench_calls(*, settings: Annotated[FunctionCallingSettings | None, FLATTENED] = None) -> None:
    """Measure the latency of function calling: sync, sync_parallel and async side by side.

    Tokens are forced along known answers, so that the system is measured and not the model; with
    the suite demo the bundled model decides itself (docs/results/async.md). With --sessions, many
    cases run at once, and policies are compared instead of modes.
    """
    require(Extra.LAB)
    from caesura.cli.extras import require_model
    from caesura.lab.bench.function_calling.run import run_function_calling

    settings = settings or FunctionCallingSettings()
    if settings.model is not None:
        model = require_model(str(settings.model), as_folder=True)
        settings = settings.model_copy(update={"model": model})
    run_function_calling(settings, command=command_line())


http = App(
    "http",
    help_epilogue=examples(
        "caesura bench http --base-url http://127.0.0.1:8000 --base-url http://127.0.0.1:8001 \\",
        "    --names stock,caesura --rate 1.2 --seeds 0,1,2 --json out/http.json",
        "caesura bench http --base-url http://127.0.0.1:8001 --names caesura --session-ids",
    ),
)
app.command(http)


@http.default
def bench_http(*, settings: Annotated[HttpSettings, FLATTENED]) -> None:
    """Compare servers over HTTP, with the openai package: agents that run their own tools.

    Any OpenAI-compatible server will do that takes ignore_eos: `vllm serve`, `caesura serve`,
    others. Start them first, alike but for what is to be compared. Each turn is a chat completion
    with the whole conversation and a tool; its output has exactly the trace's tokens; a tool's
    result comes back as a message when the pause is over. Servers take turns, seed by seed.

    Where a server has vLLM's /tokenize, texts and outputs are of words that are one token each, so
    that an output stays the same tokens when it is sent back. Where it has /reset_prefix_cache
    (vLLM's development mode), contexts are forgotten before each run; else texts are new in each.
    Without --session-ids a server sees what any client sends; `caesura serve` then takes a request
    that ends without a tool call for the last of its session, unless it has --keep-contexts all.
    """
    require(Extra.LAB)
    from caesura.lab.bench.http.run import run_http

    run_http(settings, command=command_line())
