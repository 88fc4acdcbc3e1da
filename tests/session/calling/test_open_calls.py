from caesura.cml import Call
from caesura.session.calling import Durations
from caesura.session.calling.open_calls import OpenCalls

A, B = Call("a", "slow"), Call("b", "quick")


def test_a_declared_duration_counts_before_a_learned_one() -> None:
    durations = Durations({"slow": 5.0})
    durations.record(A, 1.0)
    assert durations.expected_seconds(A) == 5.0
    assert durations.expected_seconds(B) is None
    for seconds in (1.0, 2.0, 30.0):
        durations.record(B, seconds)
    assert durations.expected_seconds(B) == 2.0


def test_old_durations_and_rare_tools_are_forgotten() -> None:
    durations = Durations()
    for seconds in [100.0] * 10 + [1.0] * 32:
        durations.record(B, seconds)
    assert durations.expected_seconds(B) == 1.0
    for number in range(2000):
        durations.record(Call("x", f"tool{number}"), 1.0)
    assert durations.expected_seconds(B) is None


def test_what_has_passed_is_taken_off() -> None:
    pending = OpenCalls(Durations({"slow": 5.0, "quick": 2.0}))
    pending.add(A, 100.0)
    pending.add(B, 101.0)
    assert pending.remaining_seconds(102.0, until_all=False) == 1.0
    assert pending.remaining_seconds(102.0, until_all=True) == 3.0
    # The quick one is late: as long again as it has taken.
    assert pending.remaining_seconds(103.5, until_all=False) == 1.5
    assert pending.remaining_seconds(106.0, until_all=False) == 5.0
    assert pending.expect("b", None, 0.5, 106.0)
    assert pending.remaining_seconds(106.0, until_all=False) == 0.5
    assert pending.expect("b", 0.25, None, 105.0)  # a quarter in 4 seconds
    assert pending.remaining_seconds(105.0, until_all=True) == 12.0
    assert not pending.expect("b", None, None, 106.0)
    assert not pending.expect("b", 0.0, None, 106.0)
    assert not pending.expect("c", None, 0.5, 106.0)


def test_results_teach_unless_their_calls_are_of_an_earlier_life() -> None:
    durations = Durations()
    pending = OpenCalls(durations, [A], 0.0)
    pending.add(B, 0.0)
    assert pending.remaining_seconds(1.0, until_all=False) is None
    assert pending.take("a", 3.0)
    assert pending.take("b", 4.0)
    assert not pending.take("b", 5.0)
    assert durations.expected_seconds(A) is None
    assert durations.expected_seconds(B) == 4.0


def test_the_endpoint_is_the_same_for_the_same_tools() -> None:
    pending = OpenCalls(Durations())
    pending.add(A, 0.0)
    pending.add(B, 0.0)
    pending.add(Call("c", "quick"), 0.0)
    assert pending.endpoint(until_all=True) == "quick+slow"
    for number in range(9):
        pending.add(Call(f"x{number}", f"tool{number}"), 0.0)
    assert pending.endpoint(until_all=True) == "quick+slow+tool0+tool1+..."


def test_a_human_is_waited_for_where_the_pause_cannot_end_without_one() -> None:
    pending = OpenCalls(Durations({"slow": 5.0, "quick": 2.0}))
    pending.add(A, 0.0)
    pending.add(B, 0.0)
    assert pending.asks("a", True, 1.0)
    assert pending.endpoint(until_all=True) == "human"
    assert pending.remaining_seconds(1.0, until_all=True) is None
    assert pending.endpoint(until_all=False) == "quick"
    assert pending.remaining_seconds(1.0, until_all=False) == 1.0
    assert pending.take("b", 2.0)
    assert pending.endpoint(until_all=False) == "human"
    assert pending.asks("a", False, 601.0)
    assert pending.endpoint(until_all=False) == "slow"
    assert pending.remaining_seconds(601.0, until_all=True) == 4.0
    assert not pending.asks("b", True, 602.0)


def test_the_time_of_a_human_is_not_learned_as_the_tools() -> None:
    durations = Durations()
    pending = OpenCalls(durations)
    pending.add(A, 0.0)
    pending.add(B, 0.0)
    assert pending.asks("a", True, 1.0)
    assert pending.asks("a", False, 601.0)
    assert pending.take("a", 603.0)
    assert durations.expected_seconds(A) == 3.0
    assert pending.asks("b", True, 2.0)
    assert pending.take("b", 900.0)  # what it took before it asked
    assert durations.expected_seconds(B) == 2.0
