import pytest

from caesura.cml import ReasoningTags, Vocabulary
from caesura.errors import ConfigurationError


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("", "</think>"),
        ("<think>", "<think>"),
        ("<think", "<think>"),
        ("[END]", "[/END]"),
        ("<~think>", "</think>"),
        ("<a[b>", "</a>"),
        ("<<think>", "</think>"),
    ],
)
def test_reasoning_tags_that_could_be_mistaken_are_refused(opening: str, closing: str) -> None:
    with pytest.raises(ConfigurationError):
        Vocabulary(ReasoningTags(opening, closing))


def test_common_reasoning_tags_are_accepted() -> None:
    for opening, closing in [("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷")]:
        assert Vocabulary(ReasoningTags(opening, closing)).spellings
