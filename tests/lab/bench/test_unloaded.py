"""What turns take alone, by a profile and as measured."""

import pytest

from caesura.engine.config import CaesuraConfig
from caesura.lab.bench.replay import ReplayedSession, ReplayedTurn, ReplayEnding, ReplayRecord
from caesura.lab.bench.service import Yardstick, served
from caesura.lab.bench.unloaded import MeasuredTimes, ProfiledTimes, measure_unloaded
from caesura.lab.bench.workload import Segment, WorkloadSession
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.sim.device import ModelledDevice
from caesura.lab.sim.profiles import device_profile
from caesura.lab.sim.virtual_replay import virtual_replay
from caesura.lab.sim.vllm_engine import HeadlessEngine, HeadlessSettings
from support.lab.bench_records import replay_of


def test_a_session_alone_on_the_simulated_device_waits_for_nothing() -> None:
    profile = device_profile("h100-80gb", "llama-3.1-8b")
    engine = HeadlessEngine(
        HeadlessSettings(
            model=str(demo_model_path()),
            kv_tokens=100_000,
            max_num_batched_tokens=512,
            caesura=CaesuraConfig(policy="preserve"),
        ),
        ModelledDevice(profile),
        lambda session, index: f"{session}#{index}".encode(),
    )
    spec = WorkloadSession(
        "s", "math", (Segment(1300, 20, 1.0, "tool"), Segment(700, 1, 2.0, "tool"), Segment(1, 9))
    )
    record = virtual_replay([engine], ["s"], [spec], [0.0], in_place=True)
    one = served(record.sessions[0], Yardstick(ProfiledTimes(profile, 512)))
    assert [turn.wait_seconds for turn in one.turns] == pytest.approx([0, 0, 0], abs=1e-9)
    assert one.active_seconds == pytest.approx(one.unloaded_seconds)


def test_measured_times_are_lines_through_the_medians() -> None:
    turns = [
        ReplayedTurn(tokens, 11, 0.0, first, first + 10 * per_token, None, None)
        for tokens, noise in ((100, 0), (100, 0.5), (100, -0.05), (200, 0), (300, 0))
        for first, per_token in [(0.1 + 0.002 * tokens + noise, 0.01 + 1e-5 * (tokens + 5))]
    ]
    times = MeasuredTimes.of(turns)
    assert times.prefill_seconds(50, 1000) == pytest.approx(0.2)
    assert times.decode_seconds(11, 100) == pytest.approx(10 * (0.01 + 1e-5 * 105.5))


def test_longer_prompts_never_take_less_by_a_measurement() -> None:
    turns = [ReplayedTurn(n, 3, 0.0, 1.0 / n, 1.0 / n + 0.2, None, None) for n in (10, 20)]
    times = MeasuredTimes.of(turns)
    assert times.prefill_seconds(5, 0) == times.prefill_seconds(500, 0) == pytest.approx(0.075)


async def test_probes_run_one_by_one_up_to_the_longest_context() -> None:
    played: list[WorkloadSession] = []

    async def play(number: int, session: WorkloadSession) -> ReplayRecord:
        assert number == len(played)
        played.append(session)
        (segment,) = session.segments
        turn = ReplayedTurn(segment.append_tokens, segment.output_tokens, 0.0, 1.0, 2.0, None, None)
        return replay_of(ReplayedSession(session.id, "", 0.0, (turn,), ReplayEnding.COMPLETED))

    await measure_unloaded(play, 816)
    assert {session.context_tokens for session in played} == {116, 416, 816}
    assert len({session.id for session in played}) == len(played) == 9
