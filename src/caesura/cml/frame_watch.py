"""Where a turn of CML tokens ends, decided for each token when it is sampled.

The engine is the first to know a token. Only it can stop exactly at the end of a frame, or put
interrupts before a token that is sampled and not yet kept. A token that is cut off is in no
transcript: another one is sampled in its place, behind the appended tokens.

```
 sampled   Let me see . [CALL] a1 [HEAD] {...} [END] Mean while , I
 interrupts may come  │  │                          │ │           │
                      before a word or a marker     │ before a word
                                          behind the end of a call
```
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from caesura.cml.frame_rules import CallStop, FrameRules
from caesura.cml.grammar import IN_FRAME, LISTENS_FOR, State, next_state
from caesura.cml.markers import Marker, Symbol

WORD_PATIENCE_TOKENS = 16
"""How many tokens an interrupt waits for the start of a word, outside frames."""


class Verdict(Enum):
    """What happens to a sampled token."""

    KEEP = "keep"
    STOP_AFTER = "stop_after"  # the turn ends behind it
    STOP_BEFORE = "stop_before"  # the turn ends before it, and it is not kept


class Ending(Enum):
    """Why a turn ends at a token."""

    FRAME = "frame"  # behind a trap, or behind a call
    BUNDLE = "bundle"  # behind a bundle of calls
    SEQUENCE = "sequence"  # the model ended its turn
    INTERRUPTED = "interrupted"  # tokens are appended here


@dataclass(frozen=True, slots=True)
class Ruling:
    """What happens to a sampled token, and why the turn ends there, if it does."""

    verdict: Verdict
    ending: Ending | None = None


_KEPT = Ruling(Verdict.KEEP)


class _Bundle(Enum):
    """State of adjacent calls that end the turn together (`CallStop.BUNDLE`)."""

    NONE = "none"
    OPEN = "open"  # only calls without an id so far, so there is nothing to wait for
    AWAITED = "awaited"


class FrameWatch:
    """The frames of one session: follows its stream through the grammar, turn by turn.

    Its states are those of `Monitor`. The content of frames does not matter to it.

    Args:
        rules: those of the session's current turn.
        end_tokens: tokens that end the sequence.
        text_of: text of a token, with its leading white space.

    Attributes:
        state: where in the grammar the stream is.
    """

    def __init__(
        self, rules: FrameRules, end_tokens: frozenset[int], text_of: Callable[[int], str]
    ) -> None:
        self.state = State.TEXT
        self._text_of = text_of
        self.begin_turn(rules, end_tokens)

    def begin_turn(self, rules: FrameRules, end_tokens: frozenset[int]) -> None:
        """Begin the next turn, behind appended tokens.

        An open frame is broken off; only a prompt ends a reasoning block.
        """
        self._calls = rules.calls
        self._at_words = rules.at_words
        self._symbols = rules.symbols
        self._end_tokens = end_tokens
        was_reasoning = self.state is State.REASONING
        is_reasoning = was_reasoning if rules.in_reasoning is None else rules.in_reasoning
        self.state = State.REASONING if is_reasoning else State.TEXT
        self._bundle = _Bundle.NONE
        self._at_boundary = True  # the next token does not continue a word
        self._waited_tokens = 0

    @property
    def in_frame(self) -> bool:
        """Whether a frame is open: nothing may be appended."""
        return self.state in IN_FRAME

    def feed(self, token_id: int, *, interrupt_waits: bool) -> Ruling:
        """Take the next sampled token.

        Args:
            token_id: the token.
            interrupt_waits: tokens wait to be appended as soon as that is allowed.
        """
        if token_id in self._end_tokens:
            self.state = State.TEXT
            return Ruling(Verdict.STOP_BEFORE, Ending.SEQUENCE)
        symbol = self._symbol(token_id)
        if not self.in_frame:
            ending = self._ending_before(token_id, symbol, interrupt_waits)
            if ending is not None:
                return Ruling(Verdict.STOP_BEFORE, ending)
        if symbol is None:
            # Other white space is no boundary: a lone space may belong to the value that follows.
            self._at_boundary = self._text_of(token_id)[-1:] == "\n"
            return _KEPT
        self._at_boundary = True
        ended = self._enter(symbol)
        if ended is None or (ended is Ending.INTERRUPTED and not interrupt_waits):
            return _KEPT
        return Ruling(Verdict.STOP_AFTER, ended)

    def _symbol(self, token_id: int) -> Symbol | None:
        """The symbol that the token is in this state; None if it is text."""
        symbol = self._symbols.get(token_id)
        return symbol if symbol in LISTENS_FOR[self.state] else None

    def _ending_before(
        self, token_id: int, symbol: Symbol | None, interrupt_waits: bool
    ) -> Ending | None:
        if self._bundle is not _Bundle.NONE:
            is_blank = symbol is None and not self._text_of(token_id).strip()
            if is_blank or symbol is Marker.CALL:
                return None
            awaited, self._bundle = self._bundle is _Bundle.AWAITED, _Bundle.NONE
            if awaited and symbol is not Marker.TRAP:  # a trap waits for the bundle as well
                return Ending.BUNDLE
        if not interrupt_waits:
            self._waited_tokens = 0
            return None
        is_position = (
            symbol is not None
            or not self._at_words
            or self._at_boundary
            or self._text_of(token_id)[:1].isspace()
        )
        if is_position or self._waited_tokens >= WORD_PATIENCE_TOKENS:
            return Ending.INTERRUPTED
        self._waited_tokens += 1
        return None

    def _enter(self, symbol: Symbol) -> Ending | None:
        """Take a symbol that is kept, and say whether a frame ends with it.

        Returns:
            `FRAME` if the turn ends there in any case, `INTERRUPTED` if it ends there only for
            tokens that wait to be appended.
        """
        was, self.state = self.state, next_state(self.state, symbol)
        if symbol is not Marker.END or was is State.TEXT:
            return None
        is_awaited = was is State.BODY
        if was is State.TRAP or (is_awaited and self._calls is CallStop.EACH):
            return Ending.FRAME
        if was in (State.CALL, State.BODY) and self._calls is CallStop.BUNDLE:
            if self._bundle is not _Bundle.AWAITED:
                self._bundle = _Bundle.AWAITED if is_awaited else _Bundle.OPEN
            return None
        return Ending.INTERRUPTED
