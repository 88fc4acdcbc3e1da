import statistics
from random import Random

import pytest

from caesura.lab.bench.function_calling.latencies import LatencyError, parse_latency


def drawn(text: str) -> list[float]:
    draw, random = parse_latency(text), Random(0)
    return [draw(random) for _ in range(20_000)]


def test_typical_times_are_within_30_and_500_ms_with_a_mean_of_110() -> None:
    times = drawn("typical")
    assert min(times) >= 0.03
    assert max(times) <= 0.5
    assert statistics.fmean(times) == pytest.approx(0.110, rel=0.02)


def test_the_long_tail_is_long() -> None:
    times = sorted(drawn("longtail"))
    assert statistics.median(times) == pytest.approx(0.08, rel=0.05)
    assert statistics.fmean(times) == pytest.approx(0.165, rel=0.05)
    assert times[int(0.99 * len(times))] > 1


def test_uniform_times_keep_their_bounds() -> None:
    times = drawn("uniform:0.03:0.5")
    assert min(times) == pytest.approx(0.03, abs=0.001)
    assert max(times) == pytest.approx(0.5, abs=0.001)
    assert statistics.fmean(times) == pytest.approx(0.265, rel=0.02)


@pytest.mark.parametrize(
    "text", ["", "normal", "uniform", "uniform:1", "uniform:2:1", "uniform:-1:1", "uniform:0:inf"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(LatencyError, match="uniform:A:B"):
        parse_latency(text)
