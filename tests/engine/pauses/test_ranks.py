"""What sessions have had, and who makes room for whom."""

from caesura.engine.copies.contexts import HostCopy
from caesura.engine.copies.groups import ONE_GROUP
from caesura.engine.pauses.pause import Pause
from caesura.engine.pauses.ranks import RankedQueue, SessionRanks
from caesura.policy import (
    AttainedService,
    ExpectedWork,
    OriginalArrival,
    Service,
    SessionOrder,
    Turn,
)
from support.engines.blocks import BLOCK_SIZE, new_request

NOW = 100.0


def ranks(order: SessionOrder | None, *, pauses_in_use: bool = True) -> SessionRanks:
    return SessionRanks(order, lambda request: pauses_in_use, lambda: NOW, lambda request: Turn())


def pause(service: Service, paused_seconds: float) -> Pause:
    return Pause(
        id="p",
        endpoint="tool",
        service=service,
        paused_seconds=paused_seconds,
        context_tokens=0,
        total_tokens=1,
        prompt_tokens=1,
        block_hashes=[],
        block_size=BLOCK_SIZE,
        hashed_tokens=BLOCK_SIZE,
        groups=ONE_GROUP,
        copy=HostCopy("p", []),
    )


def test_without_an_order_nobody_has_a_rank() -> None:
    unranked = ranks(None)
    unranked.returns("r", pause(Service(1.0), 90.0))
    assert unranked.rank(new_request("r")) is None
    assert unranked.is_empty()


def test_a_session_that_returns_keeps_its_original_arrival() -> None:
    by_arrival = ranks(OriginalArrival())
    by_arrival.returns("r", pause(Service(1.0), 90.0))
    assert "r" in by_arrival
    assert by_arrival.rank(new_request("r", arrival_seconds=95.0)) == 1.0


def test_requests_that_never_paused_stay_where_vllm_puts_them() -> None:
    assert ranks(OriginalArrival()).rank(new_request("r")) is None
    assert ranks(AttainedService(), pauses_in_use=False).rank(new_request("r")) is None
    assert ranks(AttainedService()).rank(new_request("r", arrival_seconds=7.0)) == 7.0


def test_time_in_pauses_does_not_count_and_tokens_do() -> None:
    by_service = ranks(AttainedService(handicap_seconds=2.0))
    by_service.returns("r", pause(Service(1.0, weighted_tokens=3), 90.0))
    assert by_service.rank(new_request("r")) == 1.0 + 10.0 + 6.0


def test_a_new_turn_without_a_pause_counts_what_was_generated() -> None:
    by_service = ranks(AttainedService(handicap_seconds=1.0))
    request = new_request("r", arrival_seconds=5.0)
    request.append_output_token_ids([1, 2])
    by_service.turns(request)
    request._output_token_ids.clear()
    assert by_service.rank(request) == 7.0


def test_what_is_gone_is_forgotten() -> None:
    by_arrival = ranks(OriginalArrival())
    by_arrival.returns("r", pause(Service(1.0), 90.0))
    by_arrival.gone(new_request("r"), paused=False)
    assert by_arrival.is_empty()


def test_only_requests_far_behind_make_room_the_last_first() -> None:
    by_service = ranks(AttainedService(displacement_margin_seconds=10.0))
    running = [
        new_request(f"arrived {seconds}", arrival_seconds=seconds) for seconds in (5, 30, 15, 16)
    ]
    makers = by_service.make_room_for(new_request("needy", arrival_seconds=5.0), running)
    assert [request.arrival_time for request in makers] == [30, 16]


def test_a_request_of_rank_zero_makes_room_like_any_other() -> None:
    by_service = ranks(AttainedService(displacement_margin_seconds=10.0))
    running = [new_request("zero", arrival_seconds=0.0)]
    needy = new_request("needy", arrival_seconds=-20.0)
    assert by_service.make_room_for(needy, running) == running


def test_nobody_makes_room_without_a_margin_or_for_somebody_without_a_rank() -> None:
    running = [new_request("r", arrival_seconds=90.0)]
    needy = new_request("needy")
    assert (
        ranks(AttainedService(displacement_margin_seconds=None)).make_room_for(needy, running) == []
    )
    assert ranks(OriginalArrival()).make_room_for(needy, running) == []
    assert ranks(None).make_room_for(needy, running) == []


def test_who_has_waited_for_longest_is_known_from_before_anything_paused() -> None:
    in_use = False
    learning = SessionRanks(
        ExpectedWork(), lambda request: in_use, lambda: NOW, lambda request: Turn()
    )
    queue = RankedQueue(learning.rank, learning.queued)
    for name in ("oldest", "newer"):
        queue.add_request(new_request(name))
        assert learning.longest_waiting() is None, "vLLM's own order holds"
    in_use = True
    queue.add_request(new_request("newest"))
    oldest = learning.longest_waiting()
    assert oldest is not None
    assert oldest.request_id == "oldest"
    learning.admitted(oldest)
    queue.remove_request(oldest)
    queue.prepend_request(oldest)
    longest = learning.longest_waiting()
    assert longest is not None
    assert longest.request_id == "newer", "one that was preempted waits anew"


def test_without_an_order_nobody_is_remembered() -> None:
    unranked = ranks(None)
    RankedQueue(unranked.rank, unranked.queued).add_request(new_request("r"))
    assert unranked.is_empty()
