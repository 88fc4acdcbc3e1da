"""What an engine needs to know about CML to watch the frames of a session."""

from dataclasses import dataclass
from enum import StrEnum

from caesura.cml.markers import Marker, ReasoningEdge, Symbol
from caesura.errors import ConfigurationError


class CallStop(StrEnum):
    """Which calls end the turn. Calls without an id never do: there is no result to wait for."""

    EACH = "each"  # at each call's [END]
    BUNDLE = "bundle"  # behind a bundle of calls: before the first token that is not part of it
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class FrameRules:
    """Which tokens are markers, and what ends a turn.

    Attributes:
        call, trap, head, end, interrupt: the tokens of the markers.
        calls: which ends of calls end the turn. The end of a trap always does.
        at_words: interrupts come only before a token that begins with white space, before a marker,
            behind a frame or a line break, or at the end of the sequence. If false, they come
            before any token outside frames.
        reasoning: the tokens that open and close a reasoning block, if the model has them.
        in_reasoning: whether the turn begins inside a reasoning block; None if it begins wherever
            the last turn ended, as it does behind interrupts.

    Raises:
        ConfigurationError: two markers have the same token.
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
        """The symbol of each token."""
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
