"""`caesura demo`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from pydantic import PositiveInt

from caesura.cli.extras import Extra, require
from caesura.cli.options import command_line, examples

app = App("demo", help_epilogue=examples("caesura demo --part agent --questions 6 --seed 7"))


@app.default
def demo(
    *,
    out: Path = Path("out/demo"),
    part: Annotated[Literal["agent", "pause", "all"], Parameter(show_choices=True)] = "all",
    seed: int | None = None,
    questions: PositiveInt = 4,
    model: Path | None = None,
) -> None:
    """Show what Caesura is for, on this CPU, with real tools and real engines.

    Two parts, a few minutes, no download. An agent answers questions with six tools, in three modes
    of calling them; then agent sessions run on stock vLLM and on Caesura, side by side.

    Args:
        out: Where figures and plots go.
        part: agent: a model calls real tools, in sync, sync_parallel and async mode. pause: agent
            sessions on stock vLLM and on Caesura.
        seed: Of what the agent's tools return and how long they take; a new one each time by
            default.
        questions: How many questions the agent is asked, in each mode.
        model: The agent's model: a checkpoint of `caesura train demo`.
    """
    require(Extra.LAB)
    from caesura.lab.demo.run import Part, run_demo

    run_demo(Part(part), out, command_line(), seed=seed, questions=questions, model=model)
