"""What an engine has to know of CML to watch a session's frames."""

from dataclasses import dataclass
from enum import StrEnum

from caesura.cml.markers import Marker, ReasoningEdge, ReasoningTags, Symbol, Vocabulary
from caesura.errors import ConfigurationError


class CallStop(StrEnum):
    """Which ends of calls end the turn. Only calls with an id do: of others no result comes."""

    EACH = "each"  # at each call's [END]
    BUNDLE = "bundle"  # before the first token that neither goes on a bundle of calls nor traps
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class FrameRules:
    """For a model whose markers are tokens.

    Attributes:
        call, trap, head, end, interrupt: the tokens of the markers.
        calls: which ends of calls end the turn. The end of a trap always does.
        at_words: interrupts come only before a token that begins with white space, before a marker,
            behind a frame or a line break, or at the end of the sequence; else before any token
            outside frames.
        reasoning: the tokens that open and close a reasoning block, of a model that has them.
        in_reasoning: whether the turn begins inside such a block, as its prompt or what was
            written before says; None: where the last one ended, as behind interrupts.

    Raises:
        ConfigurationError: two of them are one token.
    """

    call: int
    trap: int
    head: int
    end: int
    interrupt: int
    calls: CallStop
    at_words: bool = True
    reasoning: tuple[int, int] | None = None
    in_reasoning: bool | None = None

    def __post_init__(self) -> None:
        if len(self.symbols) < 5 + (2 if self.reasoning else 0):
            raise ConfigurationError("two markers have the same token")

    @property
    def symbols(self) -> dict[int, Symbol]:
        """What each of the tokens means."""
        symbols: dict[int, Symbol] = {
            self.call: Marker.CALL,
            self.trap: Marker.TRAP,
            self.head: Marker.HEAD,
            self.end: Marker.END,
            self.interrupt: Marker.INTR,
        }
        if self.reasoning is not None:
            opening, closing = self.reasoning
            symbols |= {opening: ReasoningEdge.OPENING, closing: ReasoningEdge.CLOSING}
        return symbols


@dataclass(frozen=True, slots=True)
class TextRules:
    """For a model that spells its markers, whatever tokens it makes them of.

    Attributes:
        calls: which ends of calls end the turn. The end of a trap always does.
        at_words: see `FrameRules`; what may begin a frame counts as a marker.
        reasoning: the tags of reasoning blocks, of a model that has them.
        in_reasoning: see `FrameRules`.

    Raises:
        ConfigurationError: the tags cannot be told from markers.
    """

    calls: CallStop
    at_words: bool = True
    reasoning: ReasoningTags | None = None
    in_reasoning: bool | None = None

    def __post_init__(self) -> None:
        Vocabulary(self.reasoning)

    @property
    def vocabulary(self) -> Vocabulary:
        """How markers and tags are spelled."""
        return Vocabulary(self.reasoning)
