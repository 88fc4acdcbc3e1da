"""Quoting of markers in text that is data, so that no text can forge a frame.

A quoted marker has a `~` inside: `[END]` becomes `[~END]`, `[~END]` becomes `[~~END]`, and so on;
all other text stays as it is. If there are several, the last one is the quote. This makes it
possible to quote a marker whose beginning is already written: behind `[EN`, `D]` becomes `~D]`.

Everything in the model's context that is not a marker is escaped once, on its way in. Everything
that leaves the context (the answer, the arguments of a call) is unescaped once, so a value that
the model copies arrives unchanged. `unescape(escape(text)) == text` for every text. Escaping twice
differs from escaping once: if escaped text were left alone, a text that happens to look escaped
could not be recovered.
"""

import re
from functools import lru_cache

from caesura.cml.markers import ALL_SYMBOLS, ESCAPE, Symbols


def escape(text: str, symbols: Symbols = ALL_SYMBOLS, before: str = "") -> str:
    """The text with every marker in it quoted, so that it contains none.

    No marker arises either where escaped text and markers meet, because the first character of a
    symbol occurs nowhere else in it. Where two texts meet without a marker between them, the
    second must be escaped with the first as `before`.

    Args:
        text: any text.
        symbols: what is quoted.
        before: the escaped text before it. A marker that begins there is quoted in `text`.
    """
    begun = open_marker(before, symbols)

    def quoted(marker: re.Match[str]) -> str:
        last_quote = marker[0].rfind(ESCAPE)
        cut = max(last_quote, 0) + 1
        if marker.start() == 0:
            cut = max(cut, len(begun))
        return marker[0][:cut] + ESCAPE + marker[0][cut:]

    return _quotable(symbols).sub(quoted, begun + text)[len(begun) :]


def unescape(text: str, symbols: Symbols = ALL_SYMBOLS) -> str:
    """The text that was escaped. Markers that are not quoted stay as they are."""
    return _quotable(symbols).sub(_unquoted, text)


def open_marker(text: str, symbols: Symbols) -> str:
    """The end of the text that may grow into a marker, quoted or not; empty if there is none."""
    spellings = [symbol.value for symbol in symbols]
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
def _quotable(symbols: Symbols) -> re.Pattern[str]:
    """Markers, quoted any number of times or not at all."""
    between = f"{re.escape(ESCAPE)}*+"
    return re.compile(
        "|".join(
            between.join(re.escape(character) for character in symbol.value) for symbol in symbols
        )
    )


class Unescaper:
    """`unescape` for text that arrives in pieces.

    Holds back at most one `~` and the letters behind it, while they may be part of a quoted marker.
    """

    def __init__(self, symbols: Symbols = ALL_SYMBOLS) -> None:
        self._symbols = symbols
        self._passed_on = ""  # letters of the open marker before what is held, without quotes
        self._held = ""

    def feed(self, text: str) -> str:
        """Take the next piece; the text that is certain now."""
        passed_on = len(self._passed_on)
        text = self._passed_on + self._held + text
        before, quote, behind = open_marker(text, self._symbols).rpartition(ESCAPE)
        # Only the last ~ can be the quote, so all others can be passed on.
        self._held = quote + behind if quote else ""
        self._passed_on = before.replace(ESCAPE, "") if quote else behind
        certain = text[: len(text) - len(self._held)]
        return unescape(certain, self._symbols)[passed_on:]

    def flush(self) -> str:
        """The text that was held back: nothing follows that could make it part of a marker."""
        held, self._passed_on, self._held = self._held, "", ""
        return held
