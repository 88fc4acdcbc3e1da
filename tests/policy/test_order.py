"""In which order sessions are served."""

import math

from hypothesis import given
from hypothesis import strategies as st

from caesura.policy import AttainedService, OriginalArrival, Service
from caesura.policy.order import LIGHT_CONTEXT_TOKENS

seconds = st.floats(0, 1e6)
tokens = st.integers(0, 1_000_000)
services = st.builds(Service, seconds, seconds, tokens)


def test_rank_by_hand() -> None:
    service = Service(arrival_seconds=10, paused_seconds=4, output_tokens=50)
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
    later = service.served(output_tokens, context_tokens).paused(paused_seconds)
    assert order.rank(later) >= order.rank(service)


def test_tokens_of_heavy_contexts_count_less() -> None:
    new = Service(arrival_seconds=0)
    assert new.served(100, LIGHT_CONTEXT_TOKENS // 2).output_tokens == 100
    assert new.served(100, LIGHT_CONTEXT_TOKENS).output_tokens == 100
    assert new.served(100, 50 * LIGHT_CONTEXT_TOKENS).output_tokens == 2
    assert new.served(100, 500).served(100, 4 * LIGHT_CONTEXT_TOKENS).output_tokens == 125


@given(services, seconds, tokens)
def test_newer_sessions_overtake_for_no_longer_than_the_handicap(
    service: Service, newer_arrival: float, newer_tokens: int
) -> None:
    order = AttainedService(handicap_seconds=0.2)
    handicap = 0.2 * service.output_tokens
    newer = Service(newer_arrival, output_tokens=newer_tokens)
    overtakes = order.rank(newer) < order.rank(service)
    active_since = service.arrival_seconds + service.paused_seconds
    assert not overtakes or newer_arrival < math.nextafter(active_since + handicap, math.inf)


def test_only_attained_service_ranks_everyone_and_displaces() -> None:
    assert AttainedService().ranks_everyone
    assert AttainedService().displacement_margin_seconds == 20.0
    assert not OriginalArrival().ranks_everyone
    assert OriginalArrival().displacement_margin_seconds is None
