"""The markers of CML, and how a stream spells them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from caesura.errors import ConfigurationError

ESCAPE = "~"
"""Stands inside a marker that is only quoted (`caesura.cml.escaping`).

It has no meaning in JSON, so a quoted marker can be copied into a call as it is.
"""


class Marker(Enum):
    """The five markers: special tokens of models trained for CML, text for all others."""

    CALL = "[CALL]"
    INTR = "[INTR]"
    TRAP = "[TRAP]"
    HEAD = "[HEAD]"
    END = "[END]"


class ReasoningEdge(Enum):
    """The beginning and the end of a reasoning block, inside which there is no CML."""

    OPENING = "opening"
    CLOSING = "closing"


Symbol = Marker | ReasoningEdge
"""Everything in a stream that is not text."""


@dataclass(frozen=True, slots=True)
class ReasoningTags:
    """How a model spells the edges of its reasoning blocks."""

    opening: str = "<think>"
    closing: str = "</think>"


@dataclass(frozen=True)
class Vocabulary:
    """How all symbols of a stream are spelled.

    Attributes:
        reasoning: the tags of reasoning blocks; None for a model that has none.

    Raises:
        ConfigurationError: a tag is empty, begins another symbol, or contains `~` or the first
            character of a symbol behind its own first character.
    """

    reasoning: ReasoningTags | None = ReasoningTags()

    def __post_init__(self) -> None:
        spellings = list(self.spellings.values())
        if not all(spellings):
            raise ConfigurationError("a reasoning tag is empty; use reasoning=None for no tags")
        openers = {spelling[0] for spelling in spellings}
        for spelling in spellings:
            if ESCAPE in spelling or openers & set(spelling[1:]):
                raise ConfigurationError(
                    f"the reasoning tag {spelling!r} cannot be used: "
                    f"it has {ESCAPE!r} or the first character of a symbol inside"
                )
            if sum(other.startswith(spelling) for other in spellings) > 1:
                raise ConfigurationError(f"the reasoning tag {spelling!r} begins another symbol")

    @cached_property
    def spellings(self) -> Mapping[Symbol, str]:
        """The text of each symbol."""
        spellings: dict[Symbol, str] = {marker: marker.value for marker in Marker}
        if self.reasoning is not None:
            spellings[ReasoningEdge.OPENING] = self.reasoning.opening
            spellings[ReasoningEdge.CLOSING] = self.reasoning.closing
        return spellings


DEFAULT_VOCABULARY = Vocabulary()
