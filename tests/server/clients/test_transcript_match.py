"""Which requests continue a remembered transcript."""

from caesura.server.clients.history import digest, identity
from caesura.server.clients.transcripts import (
    Asked,
    Continued,
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
    previous: str | None = None,
) -> Continued | None:
    digests = [digest(message) for message in messages]
    return find_continued(transcripts, Asked(owner, of, digests, previous))


def test_a_follow_up_continues_the_answer_that_it_repeats() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    continued = find(transcripts, FOLLOW_UP)
    assert continued is not None
    assert (continued.prompt_messages, continued.new_messages) == (1, 2)


def test_the_longest_history_is_continued() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    keep(transcripts, FOLLOW_UP, calling("call-2"))
    continued = find(transcripts, [*FOLLOW_UP, calling("call-2"), result("call-2")])
    assert continued is not None
    assert continued.new_messages == 4


def test_a_later_turn_that_is_not_remembered_is_new() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER)
    continued = find(transcripts, [*FOLLOW_UP, calling("edited"), result("edited")])
    assert continued is not None
    assert continued.new_messages == 2


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


def test_a_response_is_continued_by_its_id_without_its_calls() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER, response_id="resp-1")
    shown = [*QUESTION, result("call-1")]
    continued = find(transcripts, shown, previous="resp-1")
    assert continued is not None
    assert (continued.prompt_messages, continued.new_messages) == (1, 1)
    assert find(transcripts, shown, previous="resp-2") is None
    assert find(transcripts, shown, previous="resp-1", owner="beta") is None
    assert find(transcripts, QUESTION, previous="resp-1") is None, "nothing is new"


def test_a_response_that_says_something_is_continued_after_its_text() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, calling("call-1", "Let me see."), response_id="resp-1")
    said = {"role": "assistant", "content": "Let me see."}
    continued = find(transcripts, [*QUESTION, said, result("call-1")], previous="resp-1")
    assert continued is not None
    assert (continued.prompt_messages, continued.new_messages) == (1, 2)
    other = {"role": "assistant", "content": "No."}
    assert find(transcripts, [*QUESTION, other, result("call-1")], previous="resp-1") is None


def test_other_instructions_do_not_continue_a_response() -> None:
    transcripts = memory()
    keep(transcripts, QUESTION, ANSWER, response_id="resp-1")
    instructed = [{"role": "system", "content": "Be brief."}, *QUESTION, result("call-1")]
    assert find(transcripts, instructed, previous="resp-1") is None


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
