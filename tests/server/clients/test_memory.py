"""What of a turn is remembered, and what is not."""

import pytest

from caesura.server.clients.turns import ClientTurn, remember
from server.clients.kept_transcripts import calling, memory, turn, user

QUESTION = [user("The weather?")]


def test_a_turn_is_remembered_with_all_its_tokens_and_calls() -> None:
    transcripts, served = memory(), turn(QUESTION, output=3)
    remember(transcripts, served, calling("call-1", "Let me see."))
    ((kept, _),) = transcripts._kept.values()
    assert list(kept.tokens) == [*range(100), 0, 1, 2]
    assert [(call.id, call.name) for call in kept.calls] == [("call-1", "get_weather")]
    assert kept.ended_turn


def _left_to_vllm(served: ClientTurn) -> None:
    served.messages = None


def _unfinished(served: ClientTurn) -> None:
    served.complete = False


def _of_several_runs(served: ClientTurn) -> None:
    served.runs = 2


def _with_a_call_that_is_not_shown(served: ClientTurn) -> None:
    served.calls_written = 2


@pytest.mark.parametrize(
    "spoil", [_left_to_vllm, _unfinished, _of_several_runs, _with_a_call_that_is_not_shown]
)
def test_a_turn_that_is_not_exactly_known_is_not(spoil) -> None:
    transcripts, served = memory(), turn(QUESTION)
    spoil(served)
    remember(transcripts, served, calling("call-1"))
    assert transcripts.used_bytes == 0
