"""Where a turn of CML tokens may end, decided token by token while they are sampled.

An engine knows a token before anybody else does, so only it can stop exactly at the end of a
frame, or put interrupts before a token that was sampled but not yet kept. A token that is cut off
is in no transcript: its place is sampled anew, after what is appended.

```
 sampled   Let me see . [CALL] a1 [HEAD] {...} [END] Mean while , I
 interrupts may come  │  │                          │ │           │
                      before a word or a marker     │ before a word
                                          behind the end of a call
```
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum

from caesura.cml.machine import State
from caesura.cml.markers import Marker, ReasoningEdge, Symbol
from caesura.errors import ConfigurationError

WORD_PATIENCE_TOKENS = 16
"""How many tokens an interrupt waits for the start of a word, outside frames."""


class CallStop(StrEnum):
    """Which ends of calls end the turn. Only calls with an id do: of others no result comes."""

    EACH = "each"  # at each call's [END]
    BUNDLE = "bundle"  # before the first token that neither goes on a bundle of calls nor traps
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class FrameRules:
    """What an engine has to know of CML to watch a session's frames.

    Attributes:
        call, trap, head, end, interrupt: the tokens of the markers.
        calls: which ends of calls end the turn. The end of a trap always does.
        at_words: interrupts come only before a token that begins with white space, before a marker,
            behind a frame or a line break, or at the end of the sequence; else before any token
            outside frames.
        reasoning: the tokens that open and close a reasoning block, of a model that has them.

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


class Verdict(Enum):
    """What becomes of a sampled token."""

    KEEP = "keep"
    STOP_AFTER = "stop_after"  # the turn ends behind it
    STOP_BEFORE = "stop_before"  # the turn ends, and the token was never there


class Ending(Enum):
    """Why a turn ends at a token."""

    FRAME = "frame"  # behind a trap, or behind a call
    BUNDLE = "bundle"  # before what does not go on a bundle of calls
    SEQUENCE = "sequence"  # the model ended it
    INTERRUPTED = "interrupted"  # appended tokens follow here


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of a sampled token, and why the turn ends there if it does."""

    verdict: Verdict
    ending: Ending | None = None


KEPT = Ruling(Verdict.KEEP)


class _Bundle(Enum):
    """Adjacent calls, where they end the turn together."""

    NONE = "none"
    OPEN = "open"  # of calls without an id so far: nothing to wait for
    AWAITED = "awaited"


class FrameWatch:
    """The frames of one session, turn by turn.

    Its states are those of `TokenMonitor`; it knows nothing of what frames say.

    Args:
        rules: of the session's current turn.
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
        """Tokens were appended: a frame that was open is broken off, a reasoning block is not."""
        self._rules = rules
        self._symbols = rules.symbols
        self._end_tokens = end_tokens
        if self.state is not State.REASONING:
            self.state = State.TEXT
        self._bundle = _Bundle.NONE
        self._at_boundary = True  # what comes before the next token is complete
        self._waited_tokens = 0

    @property
    def in_frame(self) -> bool:
        """Whether a frame is open: nothing may be appended."""
        return self.state in (State.CALL, State.BODY, State.TRAP)

    def feed(self, token_id: int, *, interrupt_waits: bool) -> Ruling:
        """Take the next sampled token.

        Args:
            token_id: the token.
            interrupt_waits: tokens are there to be appended as soon as it is allowed.
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
            # Not behind any white space: a lone space may belong to the value that follows.
            self._at_boundary = self._text_of(token_id)[-1:] == "\n"
            return KEPT
        was, self.state = self.state, self._after(symbol)
        self._at_boundary = True
        if symbol is not Marker.END or was is State.TEXT:
            return KEPT
        return self._frame_ended(was, interrupt_waits)

    def _symbol(self, token_id: int) -> Symbol | None:
        """What the token is here: in a reasoning block only its end is a symbol."""
        symbol = self._symbols.get(token_id)
        if self.state is State.REASONING:
            return symbol if symbol is ReasoningEdge.CLOSING else None
        if symbol is ReasoningEdge.CLOSING:
            return None
        return symbol if self.state is State.TEXT or isinstance(symbol, Marker) else None

    def _ending_before(
        self, token_id: int, symbol: Symbol | None, interrupt_waits: bool
    ) -> Ending | None:
        if self._bundle is not _Bundle.NONE:
            is_blank = symbol is None and not self._text_of(token_id).strip()
            if is_blank or symbol is Marker.CALL:
                return None
            awaited, self._bundle = self._bundle is _Bundle.AWAITED, _Bundle.NONE
            if awaited:
                # A trap waits for the bundle itself, at its own end.
                return None if symbol is Marker.TRAP else Ending.BUNDLE
        if not interrupt_waits:
            self._waited_tokens = 0
            return None
        if self._may_interrupt_before(token_id, symbol):
            return Ending.INTERRUPTED
        self._waited_tokens += 1
        return None

    def _may_interrupt_before(self, token_id: int, symbol: Symbol | None) -> bool:
        return (
            not self._rules.at_words
            or symbol is not None
            or self._at_boundary
            or self._waited_tokens >= WORD_PATIENCE_TOKENS
            or self._text_of(token_id)[:1].isspace()
        )

    def _after(self, symbol: Symbol) -> State:
        match symbol:
            case Marker.CALL:
                return State.CALL
            case Marker.TRAP:
                return State.TRAP
            case Marker.INTR:
                return State.SKIPPED
            case Marker.HEAD:
                return State.BODY if self.state is State.CALL else self.state
            case ReasoningEdge.OPENING:
                return State.REASONING
            case Marker.END | ReasoningEdge.CLOSING:
                return State.TEXT

    def _frame_ended(self, was: State, interrupt_waits: bool) -> Ruling:
        is_awaited = was is State.BODY
        is_call = was in (State.CALL, State.BODY)
        if was is State.TRAP or (is_awaited and self._rules.calls is CallStop.EACH):
            return Ruling(Verdict.STOP_AFTER, Ending.FRAME)
        if is_call and self._rules.calls is CallStop.BUNDLE:
            if self._bundle is not _Bundle.AWAITED:
                self._bundle = _Bundle.AWAITED if is_awaited else _Bundle.OPEN
            return KEPT
        return Ruling(Verdict.STOP_AFTER, Ending.INTERRUPTED) if interrupt_waits else KEPT
