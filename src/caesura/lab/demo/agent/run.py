"""`caesura demo --part agent`: an agent that calls tools, in three modes."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from caesura.bundled import CML_MODEL
from caesura.bundled.services import running_tools
from caesura.bundled.world import World
from caesura.cml import Mode
from caesura.engine.config import CaesuraConfig
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat
from caesura.engine.serving.launch import Engine, EngineSettings, start_engine
from caesura.errors import ConfigurationError
from caesura.lab.bench.arm_engines import FIT_MEMORY, engine_log
from caesura.lab.bench.function_calling.stage import Stage
from caesura.lab.demo.agent.display import AgentDisplay
from caesura.lab.demo.agent.gantt import gantt_figure
from caesura.lab.demo.agent.play import AgentPlayer, Recording
from caesura.lab.demo.agent.questions import questions
from caesura.lab.demo.agent.summary import rounds, sentences, table, write_recordings
from caesura.lab.figures import save_figures
from caesura.lab.results_file import Origin

_KV_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the agent's part of the demo runs.

    Attributes:
        out: where its files go.
        seed: of the codes that are asked for, and of what the tools return.
        questions: how many.
        model: a checkpoint that calls the demo's tools in CML.
        compute_threads: of the engine on CPU.
    """

    out: Path
    seed: int
    questions: int = 4
    model: Path = CML_MODEL
    compute_threads: int = 1


def run_agent(settings: AgentSettings, command: str, console: Console) -> list[Recording]:
    """Ask the same questions in all modes; show and write what came of it.

    Args:
        settings: what is run.
        command: the command line, to stand beside the results.
        console: where it is shown.

    Returns:
        What was recorded.

    Raises:
        ConfigurationError: there is no model, or it does not speak CML.
        EngineStartError: the engine did not start.
        ServiceError: a service of the tools did not start.
    """
    if not (settings.model / "config.json").is_file():
        raise ConfigurationError(
            f"{settings.model} is no model: give --model a checkpoint that `caesura train demo` "
            "wrote"
        )
    introduction = (
        ("An agent that calls tools", "bold"),
        ": the same questions in three modes. ",
        ("sync", "bold"),
        " waits at each call, ",
        ("sync_parallel", "bold"),
        " at each bundle of calls, ",
        ("async", "bold"),
        " only when nothing else is left to do; results are injected while the model writes. The "
        "tools are real: Python functions, an HTTP service, an MCP server.\n",
    )
    console.print(Text.assemble(*introduction))
    played: list[Recording] = []
    try:
        asyncio.run(_play_all(settings, console, played))
    finally:
        if played:
            _publish(settings, command, console, played)
    return played


async def _play_all(settings: AgentSettings, console: Console, played: list[Recording]) -> None:
    """Fills `played`, so that what was recorded before it is stopped is not lost."""
    asked = questions(World(settings.seed), settings.seed, settings.questions)
    display = AgentDisplay(console)
    async with AsyncExitStack() as stack:
        with console.status("starting the engine (10 to 40 s on two cores)"):
            engine = stack.enter_context(_running_engine(settings))
        with console.status("starting the tools"):
            tools = running_tools(settings.seed, settings.out / "tools.toml")
            executor = await stack.enter_async_context(tools)
        codec = CmlFormat(ChatFormat(engine.llm.model_config, engine.llm.tokenizer, None))
        player = AgentPlayer(Stage(engine.tokens, codec), executor)
        with console.status("warming up"):
            for mode in Mode:
                await player.play(asked[0], mode)
        console.print(display.legend())
        for question in asked:
            console.print(Text.assemble("\n", (question.text, "bold"), f"  ({question.title})"))
            for mode in Mode:
                async with display.showing() as note:
                    played.append(await player.play(question, mode, note))


@contextmanager
def _running_engine(settings: AgentSettings) -> Iterator[Engine]:
    with engine_log("agent") as log:
        engine = start_engine(
            EngineSettings(
                model=str(settings.model),
                caesura=CaesuraConfig(),
                kv_memory_bytes=_KV_BYTES,
                max_model_len=FIT_MEMORY,
                dtype="float32",
                compute_threads=settings.compute_threads,
            )
        )
    try:
        yield engine
    finally:
        engine.shutdown()
        log.unlink(missing_ok=True)


def _publish(
    settings: AgentSettings, command: str, console: Console, played: list[Recording]
) -> None:
    json_path = settings.out / "agent.json"
    write_recordings(json_path, played, Origin(command), settings.seed)
    complete = rounds(played)
    if not complete:
        return
    console.print()
    console.print(table(complete))
    for sentence in sentences(complete, settings.seed):
        console.print(sentence, highlight=False)
    (picture,) = save_figures({"agent": gantt_figure(complete)}, settings.out)
    console.print(
        f"\nGantt chart: {picture}; all times: {json_path}; the tools' "
        f"configuration: {settings.out / 'tools.toml'}."
    )
