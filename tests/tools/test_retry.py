import pytest

from caesura.tools.failure import AttemptFailed
from caesura.tools.retry import retry_seconds
from caesura.tools.settings import CommonSettings

SETTINGS = CommonSettings(idempotent=True, retries=10, retry_backoff_seconds=0.5)
TRANSIENT = AttemptFailed("busy", transient=True)


@pytest.mark.parametrize(
    ("attempt", "chance", "seconds"),
    [(1, 0.0, 0.5), (2, 0.0, 1.0), (3, 0.0, 2.0), (3, 1.0, 1.0), (10, 0.0, 60.0)],
)
def test_the_wait_doubles_is_shortened_by_chance_and_is_bounded(
    attempt: int, chance: float, seconds: float
) -> None:
    assert retry_seconds(SETTINGS, TRANSIENT, attempt, chance) == seconds


def test_after_the_last_retry_there_is_none() -> None:
    assert retry_seconds(SETTINGS, TRANSIENT, 11, 0.0) is None
    assert retry_seconds(CommonSettings(), TRANSIENT, 1, 0.0) is None


def test_what_another_attempt_would_not_change_is_not_retried() -> None:
    assert retry_seconds(SETTINGS, AttemptFailed("no"), 1, 0.0) is None


@pytest.mark.parametrize(("asked", "seconds"), [(0.1, 0.5), (30.0, 30.0), (301.0, None)])
def test_what_the_other_side_asks_for_is_obeyed(asked: float, seconds: float | None) -> None:
    failure = AttemptFailed("busy", transient=True, retry_after_seconds=asked)
    assert retry_seconds(SETTINGS, failure, 1, 0.0) == seconds
