"""The command line: caesura serve, chat, bench, simulate, calibrate, train, demo, doctor."""

import os
import shlex
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from caesura.cml import Mode
from caesura.console import plain_console, printable
from caesura.errors import CaesuraError, ConfigurationError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # it takes `:A:` for an emoji, and `[train]` for markup
    pretty_exceptions_enable=False,
    help="LLM serving in which a tool call is a pause, not the end of a request: a plug-in for "
    "vLLM.\n\nStart with `caesura doctor`, then `caesura demo`.",
)

# Options that several commands take

_Workload = Annotated[
    str,
    typer.Option(
        help="A trace file (JSONL) or a preset: infercept-sample, infercept-mix, "
        "coding-agent, tools."
    ),
]
_Rates = Annotated[
    str, typer.Option(help="Session arrivals per second; comma-separated for several.")
]
_Seeds = Annotated[str, typer.Option(help="Comma-separated; one run for each.")]
_ScaleTokens = Annotated[float, typer.Option(help="Factor on all lengths.")]
_ScalePauses = Annotated[float, typer.Option(help="Factor on all pauses.")]
_SharedPrefix = Annotated[
    int, typer.Option(min=0, help="First tokens that all sessions of a class share.")
]
_PolicyOptions = Annotated[
    list[str] | None,
    typer.Option(help="A number for all policies that have it, such as ttl_seconds=5."),
]
_FiguresPath = Annotated[
    Path | None, typer.Option("--json", help="Write all figures to this file.")
]
_ReportDirectory = Annotated[
    Path | None, typer.Option(help="Write report.md and plots to this directory.")
]
_Model = Annotated[str, typer.Option(help="A path or name, or demo.")]
_Dtype = Annotated[str, typer.Option(help="Data type of the model.")]


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: caesura serve Qwen/Qwen3-8B --host-memory 64GiB "
    "--enable-auto-tool-choice --tool-call-parser hermes",
)
def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="What `vllm serve` takes: a name or a path.")],
    policy: Annotated[
        str,
        typer.Option(
            help="What becomes of paused contexts: end, discard, preserve, swap, ttl, infercept, "
            "min-waste."
        ),
    ] = "min-waste",
    host_memory: Annotated[
        str, typer.Option(help="Host memory for copies of paused contexts, such as 64GiB.")
    ] = "0",
    policy_option: Annotated[
        list[str] | None,
        typer.Option(help="A number for the policy, such as ttl_seconds=5. Repeatable."),
    ] = None,
    keep_contexts: Annotated[
        str,
        typer.Option(
            help="Which finished requests are kept as pauses: auto (ended in a tool call, gave "
            "a session id, or continued a pause), all, none."
        ),
    ] = "auto",
    copy_budget: Annotated[
        str, typer.Option(help="Bytes copied out and in per engine iteration at most.")
    ] = "64MiB",
    profile: Annotated[
        str | None,
        typer.Option(
            help="What `caesura calibrate` wrote for this model and machine: costs to start "
            "from. They are measured while serving in any case."
        ),
    ] = None,
    transcript_memory: Annotated[
        str,
        typer.Option(
            help="Memory for the tokens of what clients were answered, per API process: a "
            "follow-up request goes on from them, however the chat template would render its "
            "history. 0 turns that off."
        ),
    ] = "256MiB",
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Tools that the server runs, and settings of its sessions: a TOML file "
            "(docs/reference/configuration.md). Without it sessions have no tools, and are kept in "
            "caesura.db in the working directory. A YAML file is vLLM's, as in `vllm serve`.",
        ),
    ] = None,
) -> None:
    """Serve a model with pauses: vLLM's OpenAI-compatible server.

    It takes any of vLLM's flags. Clients need no change. A client that runs its own tools sends its
    follow-up request as always; the engine recognises the context that it continues. Metrics:
    /metrics, caesura:*.
    """
    from caesura.engine.serving.serve import serve as run_server
    from caesura.units import parse_size

    arguments = list(context.args)
    if config_file is not None and config_file.suffix in (".yaml", ".yml"):
        arguments += ["--config", str(config_file)]
        config_file = None
    config = _caesura_config(
        policy=policy,
        policy_options=_numbers(policy_option or []),
        host_memory=parse_size(host_memory),
        keep_contexts=keep_contexts,
        copy_budget=parse_size(copy_budget),
        profile=profile,
        transcript_memory=parse_size(transcript_memory),
        config_file=_checked_configuration(config_file),
    )
    run_server(model, config, arguments)


@app.command(
    epilog="Examples: caesura bench --policies stock,swap,min-waste --rate 1.2,2.0 --seeds 0,1,2 "
    "--json out/bench.json\n\n"
    "caesura bench --async --suite bfcl-parallel --data bfcl --modes sync,sync_parallel,async "
    "--cases 50 --json out/async.json",
)
def bench(
    workload: _Workload = "infercept-sample",
    policies: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: stock and stock-no-cache (vLLM without Caesura), end, "
            "discard, preserve, swap, ttl, infercept, min-waste. Default: stock,swap,min-waste; "
            "with --async min-waste,preserve.",
            show_default=False,
        ),
    ] = None,
    rate: _Rates = "1.2",
    seeds: _Seeds = "0,1,2",
    sessions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sessions per run. Default: 50. With --async: so many at once, and policies "
            "compared instead of modes.",
            show_default=False,
        ),
    ] = None,
    scale_tokens: _ScaleTokens = 0.5,
    scale_pauses: _ScalePauses = 0.2,
    kv_memory: Annotated[
        str, typer.Option(help="Device memory for KV caches, such as 32MiB.")
    ] = "32MiB",
    host_memory: Annotated[
        str, typer.Option(help="Host memory for copies, such as 1GiB.")
    ] = "1GiB",
    model: _Model = "demo",
    json_path: _FiguresPath = None,
    out: _ReportDirectory = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Write a trace of all runs to this file, for https://ui.perfetto.dev: iterations, "
            "copies, pauses. Engines of stock policies are not traced."
        ),
    ] = None,
    shared_prefix: _SharedPrefix = 0,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds per run at most; unfinished sessions count so.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Compute threads of each engine on CPU, alike in all.")
    ] = 1,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Data type of the model. Default: float32; with --async bfloat16.",
            show_default=False,
        ),
    ] = None,
    policy_option: _PolicyOptions = None,
    function_calling: Annotated[
        bool,
        typer.Option(
            "--async", help="Measure function calling instead. The options below are for it."
        ),
    ] = False,
    suite: Annotated[
        str,
        typer.Option(help="demo, bfcl-parallel, bfcl-multi-step, bfcl-multi-step-parallel."),
    ] = "demo",
    data: Annotated[Path | None, typer.Option(help="Folder of BFCL v4's JSONL files.")] = None,
    modes: Annotated[
        str, typer.Option(help="Comma-separated: sync, sync_parallel, async.")
    ] = "sync,sync_parallel,async",
    cases: Annotated[int, typer.Option(min=1, help="Cases of the suite.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of cases and execution times.")] = 0,
    latency: Annotated[
        str | None,
        typer.Option(
            help="Execution times: typical (30 to 500 ms, mean 110), longtail, uniform:A:B in "
            "seconds. Default: typical; of demo, what its tools take.",
            show_default=False,
        ),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            help="Which call is issued first: longest-first, random. With both, async runs "
            "in both orders.",
        ),
    ] = "longest-first",
    repetitions: Annotated[int, typer.Option(min=1, help="Of each case in each mode.")] = 1,
    dependencies: Annotated[
        str,
        typer.Option(
            help="Of multi-step suites: calls (each call needs the one before) or steps (calls "
            "of one step are independent).",
        ),
    ] = "calls",
    eager_bundles: Annotated[
        bool,
        typer.Option(
            "--eager-bundles",
            help="In sync_parallel, execute a call at its end instead of with its bundle.",
        ),
    ] = False,
) -> None:
    """Replay a workload on the real engine, policies side by side.

    Their runs are interleaved. The replay is a closed loop: each turn starts when the pause after
    the turn before is over.

    With --async: latency of function calling, the modes sync, sync_parallel and async side by side
    (docs/results/async.md). Tokens are forced along known answers, so that the system is measured.
    """
    if function_calling:
        from caesura.lab.bench.function_calling import FunctionCallingSettings, run_function_calling

        run_function_calling(
            FunctionCallingSettings.model_validate(
                {
                    "suite": suite,
                    "data": data,
                    "modes": tuple(_names(modes)),
                    "cases": cases,
                    "repetitions": repetitions,
                    "seed": seed,
                    "latency": latency,
                    "order": tuple(_names(order)),
                    "dependencies": dependencies,
                    "eager_bundles": eager_bundles,
                    "sessions": sessions,
                    "policies": tuple(_names(policies or "min-waste,preserve")),
                    "policy_options": _numbers(policy_option or []),
                    "seeds": tuple(int(value) for value in _names(seeds)),
                    "kv_memory_bytes": kv_memory,
                    "host_memory_bytes": host_memory,
                    "model": None if model == "demo" else model,
                    "dtype": dtype or "bfloat16",
                    "threads": threads,
                    "json_path": json_path,
                    "output_dir": out,
                }
            ),
            command=_command_line(),
        )
        return
    from caesura.lab.bench.arm_engines import ArmEngines
    from caesura.lab.bench.run import run_bench
    from caesura.lab.bench.settings import BenchSettings
    from caesura.units import parse_size

    settings = BenchSettings(
        workload=workload,
        policies=tuple(_names(policies or "stock,swap,min-waste")),
        rates=tuple(float(value) for value in _names(rate)),
        seeds=tuple(int(value) for value in _names(seeds)),
        sessions=sessions or 50,
        scale_tokens=scale_tokens,
        scale_pauses=scale_pauses,
        shared_prefix_tokens=shared_prefix,
        model=None if model == "demo" else model,
        kv_memory_bytes=parse_size(kv_memory),
        host_memory_bytes=parse_size(host_memory),
        time_limit_seconds=time_limit,
        json_path=json_path,
        output_dir=out,
        trace_path=trace,
    )
    engines = ArmEngines(settings, threads, dtype or "float32", _numbers(policy_option or []))
    run_bench(settings, engines.start, command=_command_line())


@app.command(
    epilog="Example: caesura simulate --policies stock,preserve,swap,infinite --rates 5,7,9 "
    "--kv-memory 50GB --host-memory 8GB --json out/simulation.json --out out/simulation"
)
def simulate(
    device: Annotated[
        str,
        typer.Option(
            help="a100-80gb, h100-80gb, h200, or a profile of `caesura calibrate` (JSON)."
        ),
    ] = "a100-80gb",
    model: Annotated[
        str | None,
        typer.Option(
            help="gpt-j-6b, vicuna-13b, llama-3.1-8b, llama-3.1-70b. Default: that of the "
            "profile, else gpt-j-6b."
        ),
    ] = None,
    tensor_parallel: Annotated[
        int | None,
        typer.Option(min=1, help="Devices that share the model. Default: as few as hold it."),
    ] = None,
    workload: _Workload = "infercept-mix",
    policies: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: stock, stock-no-cache, stock-host (vLLM without Caesura; with "
            "its own CPU offloading), infinite (memory for everything), and any policy of "
            "`caesura serve`. Default: all but end."
        ),
    ] = None,
    rates: _Rates = "5,7,9",
    seeds: _Seeds = "0,1,2",
    horizon: Annotated[
        float, typer.Option(help="Sessions arrive for so many seconds; all are run to their end.")
    ] = 160.0,
    warmup: Annotated[
        float, typer.Option(help="Sessions that arrive before this are not measured.")
    ] = 40.0,
    sessions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="So many sessions, all measured, with the arrivals of `caesura bench`, instead "
            "of --horizon and --warmup.",
        ),
    ] = None,
    scale_tokens: _ScaleTokens = 1.0,
    scale_pauses: _ScalePauses = 1.0,
    max_context: Annotated[
        int | None,
        typer.Option(
            min=1, help="Truncate sessions to this many tokens. Default: what the memory holds."
        ),
    ] = None,
    shared_prefix: _SharedPrefix = 0,
    kv_memory: Annotated[
        str | None,
        typer.Option(
            help="Memory for KV caches over all devices, such as 50GB. Default: what fits beside "
            "the weights."
        ),
    ] = None,
    host_memory: Annotated[
        str, typer.Option(help="Host memory for copies, such as 8GB; for stock-host too.")
    ] = "8GB",
    link: Annotated[
        str | None,
        typer.Option(help="To host memory, one way, such as 25GB/s. Default: the profile's."),
    ] = None,
    max_batched_tokens: Annotated[int, typer.Option(min=1, help="As in vLLM.")] = 2048,
    max_seqs: Annotated[int, typer.Option(min=1, help="As in vLLM.")] = 256,
    block_size: Annotated[int, typer.Option(min=1, help="As in vLLM.")] = 16,
    policy_option: _PolicyOptions = None,
    copy_budget: Annotated[
        str, typer.Option(help="Bytes copied out and in per iteration and device at most.")
    ] = "64MiB",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Runs at once. Default: number of cores.")
    ] = None,
    json_path: _FiguresPath = None,
    out: _ReportDirectory = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Write a trace of all runs to this file, for https://ui.perfetto.dev: iterations, "
            "copies, pauses. Of stock policies iterations only."
        ),
    ] = None,
) -> None:
    """Compare policies in virtual time, on a device that is modelled.

    The scheduler is the one that serves. No GPU and no model is needed.
    docs/explanation/simulator.md says what is modelled and what is not.
    """
    from caesura.lab.bench.arms import simulated_names
    from caesura.lab.sim.devices import simulated_device
    from caesura.lab.sim.settings import SimulationSettings
    from caesura.lab.sim.simulate import run_simulation
    from caesura.units import parse_size

    simulated = simulated_device(device, model, tensor_parallel)
    settings = SimulationSettings(
        workload=workload,
        policies=simulated_names() if policies is None else tuple(_names(policies)),
        rates=tuple(float(value) for value in _names(rates)),
        seeds=tuple(int(value) for value in _names(seeds)),
        device=device,
        model=simulated.profile.model,
        tensor_parallel=simulated.tensor_parallel,
        horizon_seconds=horizon,
        warmup_seconds=warmup,
        sessions=sessions,
        scale_tokens=scale_tokens,
        scale_pauses=scale_pauses,
        max_context_tokens=max_context,
        shared_prefix_tokens=shared_prefix,
        kv_memory_bytes=(
            simulated.kv_memory_bytes() if kv_memory is None else parse_size(kv_memory)
        ),
        host_memory_bytes=parse_size(host_memory),
        link_bytes_per_second=None if link is None else parse_size(link.removesuffix("/s")),
        max_batched_tokens=max_batched_tokens,
        max_seqs=max_seqs,
        block_size=block_size,
        policy_options=_numbers(policy_option or []),
        copy_budget_bytes=parse_size(copy_budget),
        json_path=json_path,
        output_dir=out,
        trace_path=trace,
    )
    run_simulation(settings, simulated.profile, command=_command_line(), processes=processes)


@app.command(
    epilog="Examples: caesura chat --tools search,ask\n\n"
    "caesura chat --message 'Sum up the latest report' > summary.txt\n\n"
    "caesura chat --session sess_2f... --message y"
)
def chat(
    url: Annotated[str, typer.Option(help="The server.")] = "http://localhost:8000",
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=["CAESURA_API_KEY", "VLLM_API_KEY"],
            help="Its API key. Sessions belong to the key that they were made with.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Refuse to talk to another model than this.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="Go on with this session instead of a new one.")
    ] = None,
    tools: Annotated[
        str | None,
        typer.Option(
            help="Tools that the model may call in new sessions: comma-separated names, or "
            "none. All that the server has by default."
        ),
    ] = None,
    message: Annotated[
        str | None,
        typer.Option(
            help="Say only this, write the answer to stdout and all else to stderr, and leave. "
            "If the session waits for a human, this is the answer."
        ),
    ] = None,
    function_calling: Annotated[
        Mode | None,
        typer.Option(
            help="What happens at a call in new sessions: wait for it, run calls that follow "
            "each other together, or go on writing. As the server is set up by default."
        ),
    ] = None,
) -> None:
    """Talk to a session of `caesura serve`: watch, steer, answer it.

    What you type while the model writes steers it. A question is answered
    where it is asked: y, or n and a reason; a text; a number; JSON.

    Ctrl-C stops the output, and once more leaves. The session goes on on the
    server, and --session comes back to it. A connection that breaks is made
    again. /help shows the commands.

    Piped lines are said one after the other, each when the session waits for
    its user. Exit status: 0 answered; 1 the session failed, was cancelled or
    reached a limit; 2 an error; 3 it waits for a human; 130 interrupted.
    """
    from caesura.chat import ChatSettings, run_chat

    chosen = None if tools is None else () if tools == "none" else tuple(_names(tools))
    raise typer.Exit(
        run_chat(ChatSettings(url, api_key, model, session, chosen, message, function_calling))
    )


@app.command(epilog="Example: caesura demo --part agent --questions 6 --seed 7")
def demo(
    out: Annotated[Path, typer.Option(help="Where figures and plots go.")] = Path("out/demo"),
    part: Annotated[
        str,
        typer.Option(
            help="agent: a model calls real tools, in sync, sync_parallel and async mode. "
            "pause: agent sessions on stock vLLM and on Caesura. Or all."
        ),
    ] = "all",
    seed: Annotated[
        int | None,
        typer.Option(
            help="Of what the agent's tools return and how long they take; a new one each time "
            "by default."
        ),
    ] = None,
    questions: Annotated[
        int, typer.Option(min=1, help="How many questions the agent is asked, in each mode.")
    ] = 4,
    model: Annotated[
        Path | None,
        typer.Option(help="The agent's model: a checkpoint of `caesura train demo`."),
    ] = None,
) -> None:
    """Show what Caesura is for, with real tools and engines."""
    from caesura.lab.demo.run import Part, run_demo

    if part not in [*Part]:
        raise typer.BadParameter(f"--part is one of: {', '.join(Part)}")
    run_demo(Part(part), out, _command_line(), seed=seed, questions=questions, model=model)


@app.command(epilog="Example: caesura calibrate --json profile.json --out out/calibration")
def calibrate(
    model: _Model = "demo",
    kv_memory: Annotated[
        str | None,
        typer.Option(
            help="Device memory for KV caches, such as 128MiB: bounds the contexts that are "
            "measured. Default: 128MiB for demo, else what vLLM chooses."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Compute threads on CPU.")] = 1,
    dtype: _Dtype = "float32",
    max_num_batched_tokens: Annotated[
        int, typer.Option(min=16, help="Query tokens per iteration at most.")
    ] = 512,
    seconds: Annotated[
        float, typer.Option(min=1, help="Time for measuring iterations, about.")
    ] = 20.0,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the profile to this file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a plot to this directory.")] = None,
    from_trace: Annotated[
        Path | None,
        typer.Option(
            help="Start no engine: fit iterations to a trace of `caesura bench --trace`, so that "
            "what production adds to each is included. Needs --base."
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="With --from-trace: a profile of the same machine and model, for KV size and link."
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="With --from-trace: whose runs are used, comma-separated. Default: all that "
            "run Caesura's scheduler."
        ),
    ] = None,
) -> None:
    """Measure what iterations and copies cost on this machine.

    The result is a device profile for `caesura simulate`. Runs the real engine in this process, on
    an otherwise idle machine. Takes about a minute.
    """
    if from_trace is not None or base is not None or policy is not None:
        if from_trace is None or base is None:
            raise ValueError("a profile under load needs both --from-trace and --base")
        if out is not None:
            raise ValueError("--from-trace writes no plot: leave out --out")
        from caesura.lab.calibrate.load_calibration import (
            LoadCalibrationSettings,
            run_load_calibration,
        )

        run_load_calibration(
            LoadCalibrationSettings(from_trace, base, tuple(_names(policy or "")), json_path),
            command=_command_line(),
        )
        return
    # Read when torch and vLLM are imported.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from caesura.lab.calibrate.run import CalibrationSettings, run_calibration
    from caesura.units import parse_size

    settings = CalibrationSettings(
        model=model,
        kv_memory_bytes=None if kv_memory is None else parse_size(kv_memory),
        threads=threads,
        dtype=dtype,
        max_num_batched_tokens=max_num_batched_tokens,
        seconds=seconds,
        json_path=json_path,
        output_dir=out,
    )
    run_calibration(settings, command=_command_line())


@app.command(
    epilog="Examples: caesura train Qwen/Qwen3-4B-Instruct-2507 --tools caesura.toml --out "
    "out/agent, then caesura train --evaluate out/agent --json out/evaluation.json, then "
    "caesura serve out/agent --config caesura.toml. The demo's model: caesura train demo --out "
    "out/demo-model",
)
def train(
    base: Annotated[
        str | None,
        typer.Argument(
            help="The model to fine-tune: a path, or a name on the Hugging Face hub. Or demo: the "
            "demo's small model, from scratch."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where model and checkpoints go.")] = Path("out/model"),
    tools: Annotated[
        Path | None,
        typer.Option(
            help="The tools to train for: the TOML file of `caesura serve --config`, or JSON with "
            "a list of OpenAI tool definitions. Without it, tools are made up for each example, "
            "and the model learns to use any."
        ),
    ] = None,
    lora: Annotated[
        bool,
        typer.Option("--lora/--full", help="Train low-rank adapters, or all weights."),
    ] = True,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank of the adapters.")] = 16,
    modes: Annotated[
        str, typer.Option(help="Comma-separated: sync, sync_parallel, async.")
    ] = "sync,sync_parallel,async",
    examples: Annotated[int, typer.Option(min=1, help="Generated sessions to train on.")] = 20_000,
    epochs: Annotated[float, typer.Option(min=0, help="Passes over the examples.")] = 1.0,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimiser steps in all, instead of --epochs."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples in a batch.")] = 8,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches in a step.")] = 1,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="The peak. Default: 2e-4 for adapters, 2e-5 for all weights."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=64, help="Longest example.")] = 2048,
    chat_template: Annotated[
        Path | None, typer.Option(help="A Jinja file, instead of the model's own template.")
    ] = None,
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 200,
    evaluate_steps: Annotated[
        int,
        typer.Option(min=0, help="Steps between rollouts during training; 0 for none."),
    ] = 0,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint in --out, with the same options.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="With demo: end after this time, however slow the machine."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of data and weights, or of the sessions.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Compute threads.")] = 2,
    evaluate: Annotated[
        Path | None,
        typer.Option(help="Train nothing: let this model play sessions, and count successes."),
    ] = None,
    cases: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Sessions per category and mode, with values and phrasings that training never "
            "sees. Default: 200 with --evaluate, 5 after and during a fine-tuning; 0 for none "
            "there.",
        ),
    ] = None,
    categories: Annotated[
        str, typer.Option(help="With --evaluate: only these kinds of tasks; comma-separated.")
    ] = "",
    seen: Annotated[
        bool, typer.Option(help="With --evaluate: as many again with those of training.")
    ] = False,
    json_path: _FiguresPath = None,
) -> None:
    """Train a model to call functions asynchronously.

    Or evaluate one, by interactive rollout. Any causal language model with a chat template can be
    fine-tuned (docs/how-to/train.md); that needs pip install "caesura[train]". What is trained is
    saved every few minutes: stop it whenever you like, and go on with --resume.
    """
    # Threads that wait for each other must not burn the core that the other one needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if evaluate is not None:
        if base is not None:
            raise ValueError("train or evaluate: give a model to train or --evaluate, not both")
        from caesura.lab.train.run import EvaluationSettings, run_evaluation

        settings = EvaluationSettings(
            model=evaluate,
            cases=cases or 200,
            seed=seed,
            modes=tuple(Mode(mode) for mode in _names(modes)),
            categories=tuple(_names(categories)),
            seen=seen,
        )
        run_evaluation(settings, threads, json_path, _command_line())
        return
    if base is None:
        raise ValueError("say what to train: a model, or demo; or give --evaluate MODEL")
    if base == "demo":
        _train_demo(out, resume, steps, minutes, seed, threads)
        return
    _require_train_extra()
    from caesura.lab.train.tuning.run import Place, run_tuning
    from caesura.lab.train.tuning.settings import TuningSettings
    from caesura.lab.train.tuning.tool_files import read_tools

    run_tuning(
        TuningSettings(
            base=base,
            lora=lora,
            tools=() if tools is None else read_tools(tools),
            modes=tuple(Mode(mode) for mode in _names(modes)),
            examples=examples,
            steps=steps or 0,
            epochs=epochs,
            batch_size=batch_size,
            accumulate=accumulate,
            learning_rate=learning_rate or (2e-4 if lora else 2e-5),
            max_tokens=max_tokens,
            lora_rank=lora_rank,
            save_steps=save_steps,
            evaluate_steps=evaluate_steps,
            evaluate_cases=5 if cases is None else cases,
            seed=seed,
            chat_template=None if chat_template is None else str(chat_template),
        ),
        Place(out, resume, threads, _command_line()),
    )


@app.command()
def doctor() -> None:
    """Say what is installed, what it can do, and what is missing."""
    from caesura.engine.serving.doctor import Verdict, examine

    table = Table(show_header=False, box=None)
    problems = 0
    styles = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "bold red"}
    for finding in examine():
        style = styles[finding.verdict]
        table.add_row(Text(finding.verdict, style), finding.topic, finding.text)
        problems += finding.verdict is Verdict.BAD
    plain_console().print(table)
    if problems:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors that a user can cause are one sentence, not a traceback."""
    try:
        app()
    except (CaesuraError, ValueError, FileNotFoundError) as error:
        message = Text.assemble(("error:", "bold red"), f" {printable(str(error))}")
        plain_console(stderr=True).print(message)
        sys.exit(2)


def _caesura_config(**options: object):  # type: ignore[no-untyped-def]
    from caesura.engine.config import CaesuraConfig

    return CaesuraConfig.parse(options)


def _checked_configuration(file: Path | None) -> Path | None:
    """The file as an absolute path; what is wrong in it is said before the model is loaded."""
    if file is None:
        return None
    from caesura.server.configuration import server_configuration

    return server_configuration(file).file.resolve()


def _numbers(pairs: list[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"{pair!r} is not of the form name=number")
        numbers[name.strip()] = float(value)
    return numbers


def _train_demo(
    folder: Path,
    resume: bool,
    steps: int | None,
    minutes: float | None,
    seed: int,
    threads: int,
) -> None:
    from caesura.lab.train.run import run_training
    from caesura.lab.train.trainer import TrainingSettings

    settings = TrainingSettings(seed=seed)
    if steps is not None:
        settings = replace(settings, steps=steps)
    if minutes is not None:
        settings = replace(settings, seconds=60 * minutes)
    run_training(settings, folder, resume, threads)


def _require_train_extra() -> None:
    """Refuse to fine-tune where the packages for it are missing."""
    missing = [name for name in ("trl", "peft", "datasets") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"fine-tuning needs {', '.join(missing)}: pip install 'caesura[train]'"
        )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _command_line() -> str:
    return shlex.join(["caesura", *sys.argv[1:]])


if __name__ == "__main__":
    main()
