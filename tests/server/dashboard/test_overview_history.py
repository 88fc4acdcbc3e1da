from caesura.server.dashboard.overview import OverviewHistory, Tier


def times(history: OverviewHistory, since: float = 0.0) -> list[float | None]:
    return [point[0] for point in history.since(since)]


def test_the_past_is_fine_first_and_coarse_beyond() -> None:
    history = OverviewHistory((Tier(1.0, 5), Tier(10.0, 3)))
    for second in range(1, 41):
        history.add(float(second), [second])
    assert times(history) == [11, 21, 31, 36, 37, 38, 39, 40]


def test_no_more_is_kept_than_the_tiers_have_room_for() -> None:
    history = OverviewHistory((Tier(1.0, 2), Tier(10.0, 2)))
    for second in range(1, 1000):
        history.add(float(second), [None])
    assert times(history) == [981, 991, 998, 999]


def test_a_point_is_given_once_though_both_tiers_have_it() -> None:
    history = OverviewHistory((Tier(1.0, 100), Tier(10.0, 100)))
    for second in range(1, 21):
        history.add(float(second), [0])
    assert times(history) == list(range(1, 21))


def test_a_stretch_begins_where_it_is_asked_to() -> None:
    history = OverviewHistory((Tier(1.0, 100),))
    for second in range(10):
        history.add(float(second), [second * 2, None])
    assert history.since(8.0) == [(8.0, 16, None), (9.0, 18, None)]


def test_samples_that_come_a_little_early_are_not_left_out_of_the_coarse_tier() -> None:
    history = OverviewHistory((Tier(1.0, 1), Tier(10.0, 10)))
    for sample in range(31):
        history.add(sample * 0.999, [sample])
    assert [round(time or 0) for time in times(history)] == [0, 10, 20, 30]
