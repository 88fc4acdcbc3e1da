"""Waiting queues in which sessions have a rank, beside requests that have none."""

from vllm.v1.request import Request

from caesura.engine.pauses.ranks import RankedQueue, move_to_rank
from support.engines.blocks import new_request

RANKS: dict[str, float] = {"zero": 0.0, "two": 2.0, "five": 5.0, "other five": 5.0}


def rank(request: Request) -> float | None:
    return RANKS.get(request.request_id)


waiting: list[Request] = []


def queue_of(*names: str) -> RankedQueue:
    queue = RankedQueue(rank, waiting.append)
    for name in names:
        queue.add_request(new_request(name))
    return queue


def names(requests: list[Request] | RankedQueue) -> list[str]:
    return [request.request_id for request in requests]


def test_without_ranks_the_queue_is_vllms() -> None:
    queue = queue_of("a", "b")
    queue.prepend_request(new_request("c"))
    assert names(queue) == ["c", "a", "b"]


def test_a_session_is_put_before_those_that_rank_behind_it() -> None:
    assert names(queue_of("five", "two", "zero")) == ["zero", "two", "five"]


def test_of_equal_ranks_the_first_to_come_is_first() -> None:
    assert names(queue_of("five", "other five")) == ["five", "other five"]


def test_among_requests_without_a_rank_arrival_counts() -> None:
    queue = RankedQueue(rank, waiting.append)
    for name, arrival in (("early", 1.0), ("late", 9.0)):
        queue.add_request(new_request(name, arrival_seconds=arrival))
    queue.add_request(new_request("five"))
    assert names(queue) == ["early", "five", "late"]


def test_a_preempted_session_goes_back_to_its_rank() -> None:
    queue = queue_of("two", "five")
    queue.prepend_request(new_request("other five"))
    assert names(queue) == ["two", "five", "other five"]


def test_a_preempted_session_does_not_wait_behind_those_that_rank_behind_it() -> None:
    queue = queue_of("two", "five")
    queue.prepend_request(new_request("zero"))
    assert names(queue) == ["zero", "two", "five"]


def test_a_preempted_request_comes_first_but_behind_sessions_that_rank_before_it() -> None:
    queue = queue_of("zero", "two", "five")
    queue.prepend_request(new_request("preempted", arrival_seconds=3.0))
    assert names(queue) == ["zero", "two", "preempted", "five"]


def test_a_session_that_resumes_runs_at_its_rank() -> None:
    running = [new_request("early", arrival_seconds=1.0), new_request("late", arrival_seconds=9.0)]
    session = new_request("five", arrival_seconds=20.0)
    running.append(session)
    move_to_rank(running, session, rank)
    assert names(running) == ["early", "five", "late"]


def test_the_session_that_ranks_last_is_preempted_first() -> None:
    running = [new_request("zero"), new_request("two")]
    session = new_request("five")
    running.insert(0, session)
    move_to_rank(running, session, rank)
    assert names(running) == ["zero", "two", "five"]


def test_those_that_hold_memory_come_first_and_behind_them_all_others() -> None:
    holding = {"five", "other five"}
    queue = RankedQueue(rank, waiting.append, lambda request: request.request_id in holding)
    for name in ("zero", "two", "five", "other five"):
        queue.add_request(new_request(name))
    assert names(queue) == ["five", "other five", "zero", "two"]
    holding.remove("five")
    queue.settle()
    assert names(queue) == ["other five", "zero", "two", "five"]


def test_nobody_that_holds_memory_comes_before_one_that_was_promoted() -> None:
    """Else the bound on its wait would not hold while others return."""
    ranks = {"promoted": -1e12, "holding": 1.0, "other": 0.5}
    queue = RankedQueue(
        lambda request: ranks[request.request_id],
        waiting.append,
        lambda request: request.request_id == "holding",
    )
    for name in ("other", "holding", "promoted"):
        queue.add_request(new_request(name))
    assert names(queue) == ["promoted", "holding", "other"]
