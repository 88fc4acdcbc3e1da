"""The clock of all that is stored: it does not jump."""

from pathlib import Path

from caesura.session.store.clock import SteadyClock, elapsed_seconds


def test_a_clock_that_is_set_changes_nothing() -> None:
    wall, elapsed = [1_000.0], [50.0]
    clock = SteadyClock(lambda: wall[0], lambda: elapsed[0])
    assert clock() == 1_000.0
    for jump in (8 * 24 * 3600.0, -16 * 24 * 3600.0):
        wall[0] += jump
        elapsed[0] += 2.0
        assert clock() == 1_000.0 + elapsed[0] - 50.0


def test_it_begins_with_the_machines_time(tmp_path: Path) -> None:
    begun = tmp_path.stat().st_mtime
    assert begun - 60 < SteadyClock()() < begun + 3600


def test_what_has_elapsed_rises() -> None:
    moments = [elapsed_seconds() for _ in range(100)]
    assert moments == sorted(moments)
