"""Which requests continue a remembered transcript."""

from caesura.server.clients.history import digest, identity
from caesura.server.clients.transcripts import (
    Asked,
    ClientTranscript,
    Transcripts,
    find_continued,
    first_change,
)
from server.clients.kept_transcripts import IDENTITY, calling, keep, memory, result, user

QUESTION = [user("The weather?")]
ANSWER = calling("call-1")
FOLLOW_UP = [*QUESTION, ANSWER, result("call-1")]


def find(
    transcripts: Transcripts,
    messages: list[dict[str, object]],
    owner: str = "alpha",
    of: bytes = IDENTITY,
) -> ClientTranscript | None:
    digests = [digest(message) for message in messages]
    return find_continued(transcripts, Asked(owner, of, digests))


def test_a_follow_up_continues_the_answer_that_it_repeats() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    continued = find(transcripts, FOLLOW_UP)
    assert continued is not None
    assert len(continued.history) == 2


def test_the_longest_history_is_continued() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    keep(transcripts, FOLLOW_UP, calling("call-2"))
    continued = find(transcripts, [*FOLLOW_UP, calling("call-2"), result("call-2")])
    assert continued is not None
    assert len(continued.history) == 4


def test_a_later_turn_that_is_not_remembered_is_new() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    continued = find(transcripts, [*FOLLOW_UP, calling("edited"), result("edited")])
    assert continued is not None
    assert len(continued.history) == 2


def test_an_edited_history_continues_nothing() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    assert find(transcripts, [user("The time?"), *FOLLOW_UP[1:]]) is None
    assert find(transcripts, [*QUESTION, calling("call-2"), result("call-2")]) is None
    assert find(transcripts, [*QUESTION, {**ANSWER, "reasoning": "I know."}, result("1")]) is None


def test_other_tools_owners_and_mere_repetitions_continue_nothing() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    assert find(transcripts, FOLLOW_UP, of=identity("demo", ["get_time"])) is None
    assert find(transcripts, FOLLOW_UP, owner="beta") is None
    assert find(transcripts, QUESTION) is None
    assert find(transcripts, [*QUESTION, ANSWER]) is None, "nothing is new"


def test_an_answer_with_a_text_behind_its_call_is_two_messages() -> None:
    transcripts = memory()
    behind = {"role": "assistant", "content": "Three essentials."}
    keep(transcripts, QUESTION, ANSWER, behind)
    continued = find(transcripts, [*QUESTION, ANSWER, behind, result("call-1")])
    assert continued is not None
    assert (len(continued.prompt), len(continued.history)) == (1, 3)
    assert find(transcripts, FOLLOW_UP) is None, "the text behind the call is not in it"
    assert changed(transcripts, [user("The time?"), ANSWER, behind, result("call-1")]) == 0


def changed(
    transcripts: Transcripts, messages: list[dict[str, object]], owner: str = "alpha"
) -> int | None:
    digests = [digest(message) for message in messages]
    return first_change(transcripts, Asked(owner, IDENTITY, digests))


def test_a_line_that_changes_with_each_request_is_pointed_at() -> None:
    transcripts = memory()
    clock = [{"role": "system", "content": f"It is 07:41:{s}."} for s in (58, 59)]
    keep(transcripts, [clock[0], *QUESTION], ANSWER)
    assert changed(transcripts, [clock[1], *FOLLOW_UP]) == 0
    assert changed(transcripts, [clock[0], user("The time?"), *FOLLOW_UP[1:]]) == 1
    assert changed(transcripts, [clock[0], *FOLLOW_UP]) is None, "nothing has changed"
    assert changed(transcripts, [clock[1], *FOLLOW_UP], owner="beta") is None
    assert changed(transcripts, [clock[1], *QUESTION]) is None, "it is new"
    assert changed(transcripts, [clock[1], *QUESTION, calling("call-2"), result("x")]) is None


def test_the_latest_answer_that_is_known_is_compared() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    keep(transcripts, FOLLOW_UP, calling("call-2"))
    edited = [
        *QUESTION,
        ANSWER,
        {**result("call-1"), "content": "it snows"},
        calling("call-2"),
        result("call-2"),
    ]
    assert changed(transcripts, edited) == 2


def test_what_is_forgotten_is_not_compared() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    transcripts._forget(next(iter(transcripts._kept)))
    assert not transcripts._of_calls
    assert changed(transcripts, [user("The time?"), *FOLLOW_UP[1:]]) is None
