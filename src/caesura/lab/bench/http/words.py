"""Texts of so many tokens: words that are one token each in most vocabularies."""

import random

_TEXT = """
the of and to in is that for it as was with be by on not he his but at are this have from or
had an they which one you were all her she there would their we him been has when who will no
more if out so up said what its about than into them can only other time new some could these
two may first then do any like my now over such our man me even most made after also did many
before must well back through years where much your way down should because long each just
"""
WORDS = tuple(_TEXT.split())


class Texts:
    """Draws texts of words, the same for the same seed.

    Args:
        words: those that the servers read as one token each.
        seed: of all texts.
    """

    def __init__(self, words: tuple[str, ...], *seed: object) -> None:
        self._words = words
        self._seed = seed

    def of(self, session: int, turn: int, tokens: int) -> str:
        """What a session appends in a turn, from 0."""
        rng = random.Random(repr((*self._seed, session, turn)))
        return " " + " ".join(rng.choices(self._words, k=max(1, tokens)))
