import tomllib
from pathlib import Path

from caesura.tools.environment import Environment
from caesura.tools.reference import configuration_reference
from caesura.tools.settings import Settings

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "reference" / "configuration.md"


def test_the_document_is_what_the_settings_say() -> None:
    written = DOCUMENT.read_text("utf-8")
    assert written == configuration_reference(), (
        "run: python -m caesura.tools.reference > docs/reference/configuration.md"
    )


def test_its_example_is_a_configuration() -> None:
    example = configuration_reference().split("```toml\n")[1].split("```")[0]
    settings = Settings.model_validate(
        tomllib.loads(example), context=Environment({"SEARCH_KEY": "x"})
    )
    assert set(settings.tools) == {"search", "ask"}
