"""Stop strings at the end of outputs."""

import pytest

from caesura.engine.model.stop_strings import LONGEST_STRING, TAIL_TOKENS, StopStrings


class Characters:
    """A tokenizer whose tokens are characters."""

    def get_added_vocab(self) -> dict[str, int]:
        return {}

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, ids))


def ended(text: str, *strings: str) -> bool:
    return StopStrings(Characters()).ended(list(map(ord, text)), strings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("print(1)</code>", True),
        ("print(1)</code> a", True),  # sampled before the abort came
        ("print(1)</cod", False),
        ("</code>" + "x" * TAIL_TOKENS, False),
        ("", False),
    ],
)
def test_one_is_found_at_the_end_of_an_output(text: str, expected: bool) -> None:
    assert ended(text, "Observation:", "</code>") is expected


def test_an_empty_string_and_one_that_is_too_long_are_not_looked_for() -> None:
    assert not ended("text", "")
    assert not ended("x" * LONGEST_STRING, "x" * (LONGEST_STRING + 1))
