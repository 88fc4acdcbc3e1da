"""The symbols of CML: its markers, and the edges of reasoning blocks."""

from collections.abc import Collection
from enum import Enum

ESCAPE = "~"
"""Stands inside a marker that is only quoted (`caesura.cml.escaping`).

It has no meaning in JSON, so a quoted marker can be copied into a call as it is.
"""


class Marker(Enum):
    """The five markers, special tokens of a model that was trained for CML, as they are spelled."""

    CALL = "[CALL]"
    INTR = "[INTR]"
    TRAP = "[TRAP]"
    HEAD = "[HEAD]"
    END = "[END]"


class ReasoningEdge(Enum):
    """The beginning and the end of a reasoning block, inside which there is no CML."""

    OPENING = "<think>"
    CLOSING = "</think>"


Symbol = Marker | ReasoningEdge
"""Everything in a stream that is not text."""

Symbols = tuple[Symbol, ...]
"""Those that a model has tokens for: all markers, and both edges or none."""

MARKERS: Symbols = tuple(Marker)
ALL_SYMBOLS: Symbols = (*Marker, *ReasoningEdge)


def has_markers(special_texts: Collection[str]) -> bool:
    """Whether these special tokens of a tokenizer are those of a model trained for CML."""
    return {marker.value for marker in Marker} <= set(special_texts)
