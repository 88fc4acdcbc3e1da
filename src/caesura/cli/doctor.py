"""`caesura doctor`."""

from cyclopts import App

app = App("doctor", help_epilogue="")


@app.default
def doctor() -> int:
    """Say what is installed, what it can do, and what is missing.

    The exit status is 1 if there is a problem.
    """
    from rich.table import Table
    from rich.text import Text

    from caesura.console import plain_console
    from caesura.engine.serving.doctor import Verdict, examine

    styles = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "bold red"}
    table = Table(show_header=False, box=None)
    findings = list(examine())
    for finding in findings:
        verdict = Text(finding.verdict, styles[finding.verdict])
        table.add_row(verdict, finding.topic, Text(finding.text))
    plain_console().print(table)
    return int(any(finding.verdict is Verdict.BAD for finding in findings))
