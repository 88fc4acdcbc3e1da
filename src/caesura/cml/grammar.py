"""The grammar of a stream as one table: its states, and the state behind each symbol."""

from collections.abc import Mapping
from enum import Enum

from caesura.cml.markers import Marker, ReasoningEdge, Symbol


class State(Enum):
    """Where in the grammar a stream is."""

    TEXT = "text"
    REASONING = "reasoning"
    CALL = "call"  # after [CALL]: an id, or the body of a call without one
    BODY = "body"  # after [HEAD]
    TRAP = "trap"
    SKIPPED = "skipped"  # in a frame that was reported as an error before its end


IN_FRAME = frozenset({State.CALL, State.BODY, State.TRAP})
"""States in which a frame is open: nothing may be injected."""

_FROM_ANYWHERE: Mapping[Symbol, State] = {
    Marker.CALL: State.CALL,
    Marker.TRAP: State.TRAP,
    Marker.INTR: State.SKIPPED,
    Marker.END: State.TEXT,
}
_NEXT: Mapping[State, Mapping[Symbol, State]] = {
    State.TEXT: {
        **_FROM_ANYWHERE,
        Marker.HEAD: State.TEXT,
        ReasoningEdge.OPENING: State.REASONING,
    },
    State.REASONING: {ReasoningEdge.CLOSING: State.TEXT},
    State.CALL: {**_FROM_ANYWHERE, Marker.HEAD: State.BODY},
    State.BODY: {**_FROM_ANYWHERE, Marker.HEAD: State.BODY},
    State.TRAP: {**_FROM_ANYWHERE, Marker.HEAD: State.TRAP},
    State.SKIPPED: {**_FROM_ANYWHERE, Marker.HEAD: State.SKIPPED},
}

LISTENS_FOR: Mapping[State, frozenset[Symbol]] = {
    state: frozenset(after) for state, after in _NEXT.items()
}
"""The symbols of each state. All others are text there."""


def next_state(state: State, symbol: Symbol) -> State:
    """The state behind a symbol; the same state if the symbol is text there."""
    return _NEXT[state].get(symbol, state)
