from dataclasses import replace

import pytest

from caesura.lab.sim.device import ModelledDevice, Step
from caesura.lab.sim.profiles import device_profile

PROFILE = replace(
    device_profile("a100-80gb", "gpt-j-6b"),
    seconds_per_attention_pair=1e-6,
    link_bytes_per_second=1e9,
)


def test_an_iteration_takes_what_the_profile_says_attention_pairs_included() -> None:
    step = Step(query_tokens=100, context_tokens=500, sequences=3, attention_pairs=10_000)
    times = ModelledDevice(PROFILE).run(step, 5.0)
    assert times.computed == pytest.approx(PROFILE.iteration_seconds(100, 500, 3, 10_000))
    assert times.computed > PROFILE.iteration_seconds(100, 500, 3)
    assert (times.loaded, times.stored) == (0, 0)


def test_an_iteration_without_tokens_takes_no_time() -> None:
    assert ModelledDevice(PROFILE).run(Step(0, 0, 0), 5.0).computed == 0


def test_copies_queue_on_their_channel_and_not_on_the_other() -> None:
    device = ModelledDevice(PROFILE)
    load = Step(0, 0, 0, load_bytes=10**9)
    assert device.run(load, 0.0).loaded == pytest.approx(1.0)
    assert device.run(load, 0.25).loaded == pytest.approx(1.75)
    assert device.run(Step(0, 0, 0, store_bytes=10**9), 0.25).stored == pytest.approx(1.0)


def test_an_iteration_waits_for_urgent_copies_only() -> None:
    device = ModelledDevice(PROFILE, link_bytes_per_second=2e9)
    computing = PROFILE.iteration_seconds(1, 1, 1)
    times = device.run(Step(1, 1, 1, load_bytes=10**9), 0.0)
    assert times.computed == pytest.approx(computing)
    times = device.run(Step(1, 1, 1, urgent_bytes=10**9), 0.5)
    assert times.computed == pytest.approx(computing + 0.5)


def test_where_copies_cannot_overlap_they_lengthen_the_iteration() -> None:
    device = ModelledDevice(replace(PROFILE, link_overlaps=False))
    times = device.run(Step(1, 1, 1, load_bytes=10**9, store_bytes=10**9), 0.0)
    assert times.computed == pytest.approx(PROFILE.iteration_seconds(1, 1, 1) + 2)
    assert times.loaded == times.stored == times.computed
