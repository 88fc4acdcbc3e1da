"""Finds symbols in text that arrives in pieces, cut anywhere."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from caesura.cml.markers import Symbol, Vocabulary


@dataclass(frozen=True, slots=True)
class Found:
    """A symbol in a text: where it begins, and where it ends."""

    symbol: Symbol
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scanner:
    """Finds symbols by their spelling. Keeps no text.

    Attributes:
        symbols: the symbols that are found, by spelling; at least one.
        pattern: matches each of them.
        openers: their first characters.
        longest: how many characters the longest has.
    """

    symbols: Mapping[str, Symbol]
    pattern: re.Pattern[str]
    openers: frozenset[str]
    longest: int

    def find(self, text: str, start: int) -> Found | None:
        """The next symbol that begins at `start` or later."""
        match = self.pattern.search(text, start)
        return match and Found(self.symbols[match[0]], match.start(), match.end())

    def certain_end(self, text: str, start: int) -> int:
        """Where to cut text without a symbol, so that nothing before the cut can become one.

        Only the last opener matters, because openers occur only at the beginning of symbols.
        """
        nearest = max(start, len(text) - self.longest + 1)
        opener = max(text.rfind(opener, nearest) for opener in self.openers)
        return opener if opener >= 0 and self.completions(text[opener:]) else len(text)

    def completions(self, beginning: str) -> frozenset[Symbol]:
        """The symbols that begin with this text and are longer."""
        return frozenset(
            symbol
            for spelling, symbol in self.symbols.items()
            if spelling != beginning and spelling.startswith(beginning)
        )


@lru_cache
def scanner_for(vocabulary: Vocabulary, symbols: frozenset[Symbol]) -> Scanner:
    """A scanner for those of the symbols that the vocabulary has."""
    spelled = {
        spelling: symbol for symbol, spelling in vocabulary.spellings.items() if symbol in symbols
    }
    return Scanner(
        symbols=spelled,
        pattern=re.compile("|".join(re.escape(spelling) for spelling in spelled)),
        openers=frozenset(spelling[0] for spelling in spelled),
        longest=max(len(spelling) for spelling in spelled),
    )
