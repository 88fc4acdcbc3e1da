"""The pages that are written from the settings say what the settings do."""

import tomllib

from reference_pages import configuration_reference, pages

from caesura.tools.environment import Environment
from caesura.tools.settings import Settings


def test_the_pages_are_what_the_settings_say() -> None:
    for page, text in pages().items():
        assert page.read_text("utf-8") == text, "run: python docs/generate/reference_pages.py"


def test_the_example_is_a_configuration() -> None:
    example = configuration_reference().split("```toml\n")[1].split("```")[0]
    settings = Settings.model_validate(
        tomllib.loads(example), context=Environment({"SEARCH_KEY": "x"})
    )
    assert set(settings.tools) == {"search", "ask"}
