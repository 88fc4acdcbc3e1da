"""Which finished requests are kept as pauses, and which requests continue them."""

from collections.abc import Sequence

import pytest
from vllm.v1.request import Request, RequestStatus

from caesura.endpoints import CLIENT, CODE, NAMES_PER_OWNER, OTHER, endpoint_name
from caesura.engine.config import KeepContexts
from caesura.engine.pauses.continuations import Continuations
from caesura.engine.protocol import OWNER_ARGUMENT, REPORT, TOOLS_ARGUMENT
from engine.virtual.engine import Shape
from engine.virtual.stage import Stage


def stage() -> Stage:
    return Stage(Shape(options={"policy": "preserve", "keep_contexts": "all"}))


def continuations(on: Stage, keep: KeepContexts, *tools: str, written: str = "") -> Continuations:
    def tools_called(tokens: Sequence[int]) -> list[str]:
        return list(tools)

    def stopped(tokens: Sequence[int], strings: Sequence[str]) -> bool:
        return any(string in written for string in strings)

    named = tools_called if tools else None
    return Continuations(on.scheduler.keeper, on.scheduler.ranks, keep, named, stopped)


def finished(
    on: Stage, status: RequestStatus = RequestStatus.FINISHED_STOPPED, **options: object
) -> Request:
    request = on.engine.request("r", on.words(40), max_tokens=4, **options)
    request.append_output_token_ids([1, 2])
    request.status = status
    return request


def test_a_request_that_calls_a_tool_waits_for_it() -> None:
    on = stage()
    assert continuations(on, KeepContexts.AUTO, "search").endpoint_at_end(finished(on)) == "search"


def test_tools_that_are_called_together_are_one_endpoint() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO, "search", "python", "search")
    assert some.endpoint_at_end(finished(on)) == "python+search"


def test_what_a_request_says_itself_counts_more_than_what_it_calls() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO, "search")
    assert some.endpoint_at_end(finished(on, endpoint="human")) == "human"


def test_requests_that_nobody_is_expected_to_continue_are_not_kept() -> None:
    on = stage()
    assert continuations(on, KeepContexts.AUTO).endpoint_at_end(finished(on)) is None
    assert continuations(on, KeepContexts.ALL).endpoint_at_end(finished(on)) == CLIENT
    none = continuations(on, KeepContexts.NONE, "search")
    assert none.endpoint_at_end(finished(on)) is None


def test_a_request_with_a_session_id_is_kept() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO)
    assert some.endpoint_at_end(finished(on, session_id="s")) == CLIENT


@pytest.mark.parametrize("keep", list(KeepContexts))
def test_what_was_aborted_is_not_kept(keep: KeepContexts) -> None:
    on = stage()
    aborted = finished(on, RequestStatus.FINISHED_ABORTED, session_id="s", endpoint="search")
    assert continuations(on, keep).endpoint_at_end(aborted) is None


def aborted(
    on: Stage,
    *stops: str,
    reports: bool = True,
    status: RequestStatus = RequestStatus.FINISHED_ABORTED,
) -> Request:
    """A request as vLLM ends one at a stop string, or when its client leaves."""
    request = finished(on, status, extra_args={REPORT: reports})
    request.sampling_params.stop = list(stops)
    return request


def test_a_turn_that_ended_at_a_stop_string_waits_for_what_the_client_runs() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO, written="print(1)</code>")
    assert some.endpoint_at_end(aborted(on, "Observation:", "</code>")) == CODE
    assert some.endpoint_at_end(aborted(on, "Observation:")) is None, "its client has left"
    assert some.endpoint_at_end(aborted(on)) is None
    assert some.endpoint_at_end(aborted(on, "</code>", reports=False)) is None, "no conversation"
    ended = aborted(on, "</code>", status=RequestStatus.FINISHED_STOPPED)
    assert some.endpoint_at_end(ended) == CODE, "the model was faster than the abort"
    calling = continuations(on, KeepContexts.AUTO, "search", written="</code>")
    assert calling.endpoint_at_end(aborted(on, "</code>")) == "search"
    none = continuations(on, KeepContexts.NONE, written="</code>")
    assert none.endpoint_at_end(aborted(on, "</code>")) is None


def test_a_session_in_place_is_no_finished_request() -> None:
    on = stage()
    some = continuations(on, KeepContexts.ALL, "search")
    session = finished(on, resumable=True)
    assert some.endpoint_at_end(session) is None
    assert some.waits_for(session) == "search"
    assert continuations(on, KeepContexts.ALL).waits_for(session) == CLIENT


def test_what_was_announced_is_what_a_session_waits_for_next_and_once() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO, "search")
    session = finished(on, resumable=True)
    some.name_next("r", "human")
    assert not some.is_empty()
    assert some.waits_for(session) == "human"
    assert some.waits_for(session) == "search"
    assert some.is_empty()


def test_what_was_announced_counts_more_than_what_a_request_says_and_calls() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO, "search")
    some.name_next("r", "human")
    assert some.endpoint_at_end(finished(on, endpoint="other")) == "human"
    assert some.is_empty()


def test_outputs_of_requests_without_tools_are_not_looked_at() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO, "search")
    without = finished(on, extra_args={TOOLS_ARGUMENT: False})
    assert some.endpoint_at_end(without) is None
    for told in (True, None):
        assert some.endpoint_at_end(finished(on, extra_args={TOOLS_ARGUMENT: told})) == "search"


@pytest.mark.parametrize("text", ["a|b", "\ud800", 'x"\ny', "z" * 2**20])
def test_a_name_is_safe_wherever_it_comes_from(text: str) -> None:
    on = stage()
    name = endpoint_name(text)
    assert name != text
    assert continuations(on, KeepContexts.AUTO, text).endpoint_at_end(finished(on)) == name
    said = continuations(on, KeepContexts.AUTO)
    assert said.endpoint_at_end(finished(on, endpoint=text)) == name
    said.name_next("r", text)
    assert said.waits_for(finished(on, resumable=True)) == name


def test_what_is_no_text_is_no_name() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO)
    assert some.endpoint_at_end(finished(on, endpoint=["x"] * 1000)) is None


def test_an_owner_that_invents_names_takes_none_from_others() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO)

    def named(name: str, owner: str) -> str | None:
        return some.endpoint_at_end(finished(on, endpoint=name, extra_args={OWNER_ARGUMENT: owner}))

    names = [named(f"n{number}", "one") for number in range(NAMES_PER_OWNER + 1)]
    assert names.count(OTHER) == 1
    assert named("search", "two") == "search"


def test_a_request_that_begins_with_a_paused_context_continues_it_and_is_kept_itself() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO)
    player = on.request("first", 40, 3)
    on.run()
    tokens = [*player.transcript.tokens, 1, 2, 3]
    pause = some.find(on.engine.request("second", tokens, max_tokens=1))
    assert pause is not None
    assert pause.id == "first"
    second = finished(on)
    second.request_id = "second"
    assert some.endpoint_at_end(second) == CLIENT
    some.discard("second")
    assert some.is_empty()
    assert some.endpoint_at_end(second) is None


def test_others_do_not_continue_it() -> None:
    on = stage()
    some = continuations(on, KeepContexts.AUTO)
    player = on.request("first", 40, 3, extra_args={OWNER_ARGUMENT: "me"})
    on.run()
    tokens = [*player.transcript.tokens, 1, 2, 3]
    stranger = on.engine.request("s", tokens, max_tokens=1, extra_args={OWNER_ARGUMENT: "you"})
    assert some.find(stranger) is None
    other = on.engine.request("o", on.words(60), max_tokens=1, extra_args={OWNER_ARGUMENT: "me"})
    assert some.find(other) is None
    mine = on.engine.request("m", tokens, max_tokens=1, extra_args={OWNER_ARGUMENT: "me"})
    assert some.find(mine) is not None
