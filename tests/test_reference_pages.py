"""The pages that are written from the settings say what the settings do."""

import runpy
import tomllib
from pathlib import Path

from caesura.tools.environment import Environment
from caesura.tools.settings import Settings

SCRIPT = Path(__file__).parent.parent / "docs" / "generate" / "reference_pages.py"
WRITER = runpy.run_path(str(SCRIPT))


def test_the_pages_are_what_the_settings_say() -> None:
    for page, text in WRITER["pages"]().items():
        assert page.read_text("utf-8") == text, "run: python docs/generate/reference_pages.py"


def test_the_example_is_a_configuration() -> None:
    example = WRITER["configuration_reference"]().split("```toml\n")[1].split("```")[0]
    settings = Settings.model_validate(
        tomllib.loads(example), context=Environment({"SEARCH_KEY": "x"})
    )
    assert set(settings.tools) == {"search", "ask"}
