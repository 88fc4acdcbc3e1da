"""In which order sessions are served."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.policy import AttainedService, ExpectedWork, OriginalArrival, Service, Turn
from caesura.policy.service import LIGHT_CONTEXT_TOKENS

seconds = st.floats(0, 1e6)
tokens = st.integers(0, 1_000_000)
services = st.builds(Service, seconds, seconds, tokens, tokens)


def test_rank_by_hand() -> None:
    service = Service(arrival_seconds=10, paused_seconds=4, weighted_tokens=50)
    assert AttainedService(handicap_seconds=0.2).rank(service) == 10 + 4 + 0.2 * 50
    assert OriginalArrival().rank(service) == 10


@given(services)
def test_without_a_handicap_pauses_alone_count(service: Service) -> None:
    rank = AttainedService(handicap_seconds=0).rank(service)
    assert rank == service.arrival_seconds + service.paused_seconds


@given(services, services)
def test_original_arrival_ignores_what_a_session_has_had(one: Service, other: Service) -> None:
    rank = OriginalArrival().rank
    assert (rank(one) < rank(other)) == (one.arrival_seconds < other.arrival_seconds)


@given(services, seconds, tokens, tokens)
def test_a_rank_never_falls_by_service_or_pauses(
    service: Service, paused_seconds: float, output_tokens: int, context_tokens: int
) -> None:
    order = AttainedService()
    later = service.served(output_tokens, context_tokens).paused(paused_seconds, "tool")
    assert order.rank(later) >= order.rank(service)


def test_tokens_of_heavy_contexts_count_less() -> None:
    new = Service(arrival_seconds=0)
    assert new.served(100, LIGHT_CONTEXT_TOKENS // 2).weighted_tokens == 100
    assert new.served(100, LIGHT_CONTEXT_TOKENS).weighted_tokens == 100
    assert new.served(100, 50 * LIGHT_CONTEXT_TOKENS).weighted_tokens == 2
    assert new.served(100, 500).served(100, 4 * LIGHT_CONTEXT_TOKENS).weighted_tokens == 125


@given(services, seconds, tokens)
def test_newer_sessions_overtake_for_no_longer_than_the_handicap(
    service: Service, newer_arrival: float, newer_tokens: int
) -> None:
    order = AttainedService(handicap_seconds=0.2)
    handicap = 0.2 * service.weighted_tokens
    newer = Service(newer_arrival, weighted_tokens=newer_tokens)
    overtakes = order.rank(newer) < order.rank(service)
    active_since = service.arrival_seconds + service.paused_seconds
    assert not overtakes or newer_arrival < math.nextafter(active_since + handicap, math.inf)


def test_only_original_arrival_leaves_new_requests_alone() -> None:
    assert ExpectedWork().ranks_everyone
    assert ExpectedWork().displacement_margin_seconds == 20.0
    assert AttainedService().ranks_everyone
    assert AttainedService().displacement_margin_seconds == 20.0
    assert not OriginalArrival().ranks_everyone
    assert OriginalArrival().displacement_margin_seconds is None


def learned(*sessions: tuple[str, int], order: ExpectedWork | None = None) -> ExpectedWork:
    """An order that has seen sessions end: the endpoint of their only pause, after one token,
    and how many tokens they generated behind it."""
    order = order or ExpectedWork()
    for endpoint, tokens in sessions:
        service = Service.begun(0.0, 100).served(1, 100).paused(1.0, endpoint)
        order.ended(service.served(tokens, 100))
    return order


def returned(endpoint: str, arrival_seconds: float = 0.0) -> Service:
    return Service.begun(arrival_seconds, 100).served(1, 100).paused(5.0, endpoint)


@given(services, services)
def test_before_anything_is_learned_sessions_are_served_as_they_arrived(
    one: Service, other: Service
) -> None:
    rank = ExpectedWork().rank
    assert (rank(one) < rank(other)) == (one.arrival_seconds < other.arrival_seconds)
    assert rank(one) == one.arrival_seconds


def test_sessions_that_will_be_over_soon_go_first() -> None:
    order = learned(*[("quick", 10), ("slow", 1000)] * 50)
    assert order.rank(returned("quick", arrival_seconds=20.0)) < order.rank(returned("slow"))
    assert order.rank(returned("quick")) < order.rank(returned("unheard of"))
    assert order.rank(returned("unheard of")) < order.rank(returned("slow"))


def test_time_in_pauses_is_no_time_of_waiting() -> None:
    order = learned(*[("tool", 10)] * 50)
    service = Service.begun(0.0, 100).served(1, 100)
    brief, long = service.paused(1.0, "tool"), service.paused(61.0, "tool")
    waited = order.rank(long) - order.rank(brief)
    assert waited == pytest.approx(60 * order.remaining.confidence)


def test_a_few_samples_of_a_class_count_little_beside_all_sessions() -> None:
    sure = learned(*[("slow", 1000)] * 50, *[("quick", 10)] * 50)
    unsure = learned(*[("slow", 1000)] * 99, ("quick", 10))
    ratio = sure.rank(returned("quick")) / unsure.rank(returned("quick"))
    assert ratio < 0.8, "one sample of a class hardly moves it away from all sessions"


def test_the_same_tool_of_another_owner_is_another_class() -> None:
    order = learned(*[("search", 10)] * 50, *[("other", 1000)] * 50)
    service = Service.begun(0.0, 100).served(1, 100)
    own, foreign = service.paused(5.0, "search"), service.paused(5.0, "search", owner="b")
    assert order.rank(own) < order.rank(foreign)


def test_whoever_takes_more_memory_goes_later() -> None:
    order = learned(*[("tool", 100)] * 50)
    ranks = [order.rank(returned("tool"), Turn(tokens, 0.0)) for tokens in (100, 1_000, 10_000)]
    assert ranks == sorted(ranks)
    assert order.rank(returned("tool"), Turn(100, 50.0)) > order.rank(returned("tool"), Turn(100))


def test_a_session_that_outlives_its_class_goes_later() -> None:
    """A class that lies is found out: most of its sessions are short, and this one is not."""
    order = learned(*[("tool", 10)] * 90, *[("tool", 5000)] * 10)
    fresh = returned("tool")
    assert order.rank(fresh.served(20, 100)) > order.rank(fresh) + 100


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=400), st.integers(0, 10_000))
def test_a_rank_is_a_finite_time_whatever_was_learned(totals: list[int], had: int) -> None:
    order = learned(*[("tool", tokens) for tokens in totals])
    rank = order.rank(returned("tool").served(had, 500))
    assert 0.0 <= rank < 1e6


def test_memory_that_is_held_in_any_case_is_no_work() -> None:
    """Of equal sessions the one whose context is on the device goes first."""
    order = ExpectedWork()
    for total in (100, 200, 400):
        order.ended(Service.begun(0.0, 100).served(total, 1000))
    service = Service.begun(0.0, 100).served(50, 1000)
    ranks = [order.rank(service, Turn(1000, held_tokens=held)) for held in (1000, 500, 0)]
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[1] < ranks[2]
    assert order.rank(service, Turn(1000, held_tokens=2000)) == ranks[0], "shared blocks"
