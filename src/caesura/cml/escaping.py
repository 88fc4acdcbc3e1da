"""Quoting of markers in text that is data, so that no text can forge a frame.

`[END]` becomes `[~END]`, `[~END]` becomes `[~~END]`, and so on; all other text stays as it is.
Everything in the model's context that is not a marker is escaped once, on its way in; whatever
leaves it (the answer, the arguments of a call) is unescaped once, so that a value that the model
copies arrives as it was. `unescape(escape(text)) == text` for every text. Escaping twice differs
from escaping once wherever a marker is quoted, as it must: an escape that left its own output
alone could not be undone for a text that looks like one.
"""

import re
from functools import lru_cache

from caesura.cml.markers import DEFAULT_VOCABULARY, ESCAPE, Vocabulary


def escape(text: str, vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> str:
    """The text with every marker in it quoted; contains no marker.

    Nor does one arise where escaped texts and markers are put side by side: a symbol's first
    character is nowhere else in it, so none begins in one part and ends in the next. Parts of one
    text must be escaped together all the same.
    """
    return _quotable(vocabulary).sub(lambda match: match[0] + ESCAPE, text)


def unescape(text: str, vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> str:
    """What was escaped. Markers that are not quoted stay as they are."""
    return _quoted(vocabulary).sub("", text)


@lru_cache
def _quotable(vocabulary: Vocabulary) -> re.Pattern[str]:
    """The first characters of markers, quoted any number of times or not at all."""
    return _pattern(vocabulary, "{first}(?={escape}*+{rest})")


@lru_cache
def _quoted(vocabulary: Vocabulary) -> re.Pattern[str]:
    """The outermost quoting of each quoted marker."""
    return _pattern(vocabulary, "(?<={first}){escape}(?={escape}*+{rest})")


def _pattern(vocabulary: Vocabulary, form: str) -> re.Pattern[str]:
    escape = re.escape(ESCAPE)
    return re.compile(
        "|".join(
            form.format(first=re.escape(spelling[0]), rest=re.escape(spelling[1:]), escape=escape)
            for spelling in vocabulary.spellings.values()
        )
    )


class Unescaper:
    """`unescape` for text that comes in pieces.

    Holds back only what may be the inside of a quoted marker: one `~` and the letters after it.
    """

    def __init__(self, vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> None:
        self._vocabulary = vocabulary
        self._rests: dict[str, list[str]] = {}
        for spelling in vocabulary.spellings.values():
            self._rests.setdefault(spelling[0], []).append(spelling[1:])
        self._passed_on = ""  # first character of what may be a quoted marker
        self._held = ""

    def feed(self, text: str) -> str:
        """What is certain after this piece."""
        passed_on = len(self._passed_on)
        text = self._passed_on + self._held + text
        self._passed_on = self._held = ""
        start = max(text.rfind(first) for first in self._rests)
        if start >= 0 and (open_quote := self._open_quote(text[start:])) is not None:
            self._passed_on = text[start]
            self._held = open_quote[:1] + open_quote.lstrip(ESCAPE)
            # Of several quotings only the outermost goes, so the others can.
            certain = text[: len(text) - len(self._held)]
        else:
            certain = text
        return unescape(certain, self._vocabulary)[passed_on:]

    def flush(self) -> str:
        """What was held back, as nothing more follows it."""
        held, self._passed_on, self._held = self._held, "", ""
        return held

    def _open_quote(self, tail: str) -> str | None:
        """What follows the first character in `tail`, if it may grow into a quoted marker."""
        rest = tail[1:].lstrip(ESCAPE)
        if not rest:
            return tail[1:]
        is_open = tail[1] == ESCAPE and any(
            known != rest and known.startswith(rest) for known in self._rests[tail[0]]
        )
        return tail[1:] if is_open else None
