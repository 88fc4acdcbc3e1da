"""Quoting of markers in text that is data, so that no text can forge a frame.

A quoted marker has a `~` inside: `[END]` becomes `[~END]`, `[~END]` becomes `[~~END]`, and so on;
all other text stays as it is. If a marker has several, the last is what quoted it. So text can
also be quoted behind text that is written already: behind `[EN`, `D]` becomes `~D]`.

Everything in the model's context that is not a marker is escaped once, on its way in; whatever
leaves it (the answer, the arguments of a call) is unescaped once, so that a value that the model
copies arrives as it was. `unescape(escape(text)) == text` for every text. Escaping twice differs
from escaping once wherever a marker is quoted, as it must: an escape that left its own output
alone could not be undone for a text that looks like one.
"""

import re
from functools import lru_cache

from caesura.cml.markers import DEFAULT_VOCABULARY, ESCAPE, Vocabulary


def escape(text: str, vocabulary: Vocabulary = DEFAULT_VOCABULARY, before: str = "") -> str:
    """The text with every marker in it quoted; contains no marker.

    Where escaped texts and markers stand side by side, none arises either: a symbol's first
    character is nowhere else in it. Two texts without a marker between them are one text, of which
    the second has to be escaped with the first as `before`.

    Args:
        text: any text.
        vocabulary: how symbols are spelled.
        before: what stands before it, escaped. A marker that begins there is quoted in `text`.
    """
    begun = open_marker(before, vocabulary)

    def quoted(marker: re.Match[str]) -> str:
        last_quote = marker[0].rfind(ESCAPE)
        cut = max(last_quote, 0) + 1
        if marker.start() == 0:
            cut = max(cut, len(begun))
        return marker[0][:cut] + ESCAPE + marker[0][cut:]

    return _quotable(vocabulary).sub(quoted, begun + text)[len(begun) :]


def unescape(text: str, vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> str:
    """What was escaped. Markers that are not quoted stay as they are."""
    return _quotable(vocabulary).sub(_unquoted, text)


def open_marker(text: str, vocabulary: Vocabulary) -> str:
    """What a text ends with that may grow into a marker, quoted or not; empty if nothing may."""
    spellings = vocabulary.spellings.values()
    start = max(text.rfind(spelling[0]) for spelling in spellings)
    if start < 0:
        return ""
    letters = text[start:].replace(ESCAPE, "")
    grows = any(spelling != letters and spelling.startswith(letters) for spelling in spellings)
    return text[start:] if grows else ""


def _unquoted(marker: re.Match[str]) -> str:
    before, _, behind = marker[0].rpartition(ESCAPE)
    return before + behind


@lru_cache
def _quotable(vocabulary: Vocabulary) -> re.Pattern[str]:
    """Markers, quoted any number of times or not at all."""
    between = f"{re.escape(ESCAPE)}*+"
    return re.compile(
        "|".join(
            between.join(re.escape(character) for character in spelling)
            for spelling in vocabulary.spellings.values()
        )
    )


class Unescaper:
    """`unescape` for text that comes in pieces.

    Holds back only what may be the inside of a quoted marker: one `~` and the letters after it.
    """

    def __init__(self, vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> None:
        self._vocabulary = vocabulary
        self._passed_on = ""  # of what may be a quoted marker, the letters before what is held
        self._held = ""

    def feed(self, text: str) -> str:
        """What is certain after this piece."""
        passed_on = len(self._passed_on)
        text = self._passed_on + self._held + text
        before, quote, behind = open_marker(text, self._vocabulary).rpartition(ESCAPE)
        # If it has several, only the last quotes the marker, so the others can be passed on.
        self._held = quote + behind if quote else ""
        self._passed_on = before.replace(ESCAPE, "") if quote else behind
        certain = text[: len(text) - len(self._held)]
        return unescape(certain, self._vocabulary)[passed_on:]

    def flush(self) -> str:
        """What was held back, as nothing more follows it."""
        held, self._passed_on, self._held = self._held, "", ""
        return held
