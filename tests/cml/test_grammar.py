"""The one table of the grammar, and that all who read a stream go by it."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest

from caesura.cml import (
    CallStop,
    FrameRules,
    FrameWatch,
    Marker,
    Monitor,
    MonitorSettings,
    ReasoningEdge,
    State,
)
from caesura.cml.grammar import LISTENS_FOR, next_state
from caesura.cml.markers import Symbol

SYMBOLS: list[Symbol] = [*Marker, *ReasoningEdge]
PATHS: dict[State, list[Symbol]] = {
    State.TEXT: [],
    State.REASONING: [ReasoningEdge.OPENING],
    State.CALL: [Marker.CALL],
    State.BODY: [Marker.CALL, Marker.HEAD],
    State.TRAP: [Marker.TRAP],
    State.SKIPPED: [Marker.INTR],
}
# One column for each of SYMBOLS; a dot where it is text.
TABLE = """
            CALL  INTR     TRAP  HEAD     END   OPENING    CLOSING
TEXT        CALL  SKIPPED  TRAP  TEXT     TEXT  REASONING  .
REASONING   .     .        .     .        .     .          TEXT
CALL        CALL  SKIPPED  TRAP  BODY     TEXT  .          .
BODY        CALL  SKIPPED  TRAP  BODY     TEXT  .          .
TRAP        CALL  SKIPPED  TRAP  TRAP     TEXT  .          .
SKIPPED     CALL  SKIPPED  TRAP  SKIPPED  TEXT  .          .
"""
HEADER, *ROWS = (line.split() for line in TABLE.strip().splitlines())
EXPECTED = {
    (State[state], symbol): None if after == "." else State[after]
    for state, *row in ROWS
    for symbol, after in zip(SYMBOLS, row, strict=True)
}


def test_the_table_has_a_column_for_each_symbol_and_a_row_for_each_state() -> None:
    assert [symbol.name for symbol in SYMBOLS] == HEADER
    assert EXPECTED.keys() == set(product(State, SYMBOLS))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_each_symbol_leads_where_the_table_says(state: State, symbol: Symbol) -> None:
    expected = EXPECTED[state, symbol]
    assert (symbol in LISTENS_FOR[state]) == (expected is not None)
    assert next_state(state, symbol) is (expected or state)


def monitor(symbols: Sequence[Symbol]) -> list[State]:
    token_ids = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    reader = Monitor(MonitorSettings(), token_ids, lambda token_ids, final: "")
    states = []
    for symbol in symbols:
        reader.feed([token_ids[symbol]])
        states.append(reader.state)
    return states


def frame_watch(symbols: Sequence[Symbol]) -> list[State]:
    tokens = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    rules = FrameRules(
        *(tokens[marker] for marker in (Marker.CALL, Marker.TRAP, Marker.HEAD, Marker.END)),
        tokens[Marker.INTR],
        CallStop.NEVER,
        reasoning=(tokens[ReasoningEdge.OPENING], tokens[ReasoningEdge.CLOSING]),
    )
    spellings = [symbol.value for symbol in SYMBOLS]
    watch = FrameWatch(rules, frozenset(), spellings.__getitem__)
    states = []
    for symbol in symbols:
        watch.feed(tokens[symbol], interrupt_waits=False)
        states.append(watch.state)
    return states


@pytest.mark.parametrize("follow", [monitor, frame_watch])
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_all_readers_go_by_the_table(
    follow: Callable[[Sequence[Symbol]], list[State]], state: State, symbol: Symbol
) -> None:
    *_, reached, after = [State.TEXT, *follow([*PATHS[state], symbol])]
    assert reached is state
    assert after is (EXPECTED[state, symbol] or state)
