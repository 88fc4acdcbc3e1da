"""`caesura demo`: what Caesura is for, on this machine, in a few minutes."""

import secrets
from enum import StrEnum
from pathlib import Path

from caesura.bundled import CML_MODEL
from caesura.console import plain_console
from caesura.lab.demo.agent.run import AgentSettings, run_agent
from caesura.lab.demo.pauses import run_pauses

_SEEDS = 2**31


class Part(StrEnum):
    """What the demo shows."""

    AGENT = "agent"
    PAUSE = "pause"
    ALL = "all"


def run_demo(
    part: Part,
    out: Path,
    command: str,
    *,
    seed: int | None = None,
    questions: int = 4,
    model: Path | None = None,
) -> None:
    """Run a part of the demo, or all of it.

    Args:
        part: which.
        out: directory for figures and plots.
        command: the command line, to stand beside the results.
        seed: of the agent's world; None for a new one.
        questions: how many the agent is asked.
        model: the agent's; None for the bundled one.

    Raises:
        CaesuraError: something could not be started; says what to do.
    """
    console = plain_console()
    if part is not Part.PAUSE:
        settings = AgentSettings(
            out=out,
            seed=secrets.randbelow(_SEEDS) if seed is None else seed,
            questions=questions,
            model=model or CML_MODEL,
        )
        run_agent(settings, command, console)
    if part is Part.ALL:
        console.print()
        console.rule()
    if part is not Part.AGENT:
        run_pauses(out, command, console)
    console.print("\nNext: caesura serve --help, caesura bench --help, caesura train --help.")
