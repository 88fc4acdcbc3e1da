"""`caesura doctor`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from caesura.cli.options import examples

if TYPE_CHECKING:
    from caesura.engine.serving.doctor import Finding

app = App(
    "doctor",
    usage="Usage: caesura doctor [MODEL] [OPTIONS OF vllm serve]",
    help_epilogue=examples(
        "caesura doctor",
        "caesura doctor Qwen/Qwen3-8B",
        "caesura doctor ./my-model --kv-cache-dtype fp8",
    ),
)


@app.default
def doctor(
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> int:
    """Say what is installed, what it can do, and what is missing; or what a model can do.

    With MODEL, a folder or a name, and without loading its weights: its layers, what its KV cache
    takes for each token and for a pause, and whether it can be paused; if not, what to do. vLLM's
    own options are taken into account, such as --kv-cache-dtype.

    The exit status is 1 if there is a problem.
    """
    from caesura.engine.serving.doctor import examine
    from caesura.engine.serving.model_doctor import examine_model

    if not arguments:
        return _show(examine())
    model, *options = arguments
    return _show(examine_model(model, options))


def _show(findings: "Iterable[Finding]") -> int:
    from rich.table import Table
    from rich.text import Text

    from caesura.console import plain_console
    from caesura.engine.serving.doctor import Verdict

    styles = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "bold red"}
    table = Table(show_header=False, box=None)
    bad = False
    for finding in findings:
        verdict = Text(finding.verdict, styles[finding.verdict])
        table.add_row(verdict, finding.topic, Text(finding.text))
        bad |= finding.verdict is Verdict.BAD
    plain_console().print(table)
    return int(bad)
