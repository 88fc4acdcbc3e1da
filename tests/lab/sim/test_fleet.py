"""Several engines behind a router, and one as it always was."""

import heapq
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from caesura import cli
from caesura.lab.bench.replay import Player, ReplayError, ReplayRecord
from caesura.lab.bench.workload import WorkloadSession
from caesura.lab.sim.devices import simulated_device
from caesura.lab.sim.outages import Outage, OutageKind
from caesura.lab.sim.routing import DueTurn, EngineLoads
from caesura.lab.sim.settings import SimulationSettings
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import engines_of, simulate, simulated
from caesura.lab.sim.simulation import SimulatedOutcome, SimulatedRun
from caesura.lab.sim.virtual_replay import DETECTION_SECONDS
from caesura.lab.sim.vllm_engine import HeadlessEngine

DEVICE = simulated_device("a100-80gb")
SETTINGS = SimulationSettings(
    policies=("min-waste",),
    rates=(6.0,),
    seeds=(0,),
    engines=3,
    sessions=60,
    scale_pauses=0.3,
    kv_memory_bytes=3 * 10**9,
    host_memory_bytes=10**9,
).on(DEVICE)


def planned(policy: str = "min-waste", **changes: object) -> SimulatedRun:
    settings = SETTINGS.model_copy(update={"policies": (policy,), **changes})
    (run,) = plan_simulation(settings, DEVICE.profile)
    return run


@cache
def outcome(policy: str = "min-waste", router: str = "sticky") -> SimulatedOutcome:
    return simulate(planned(policy, router=router))


def replayed_alone(
    engine: HeadlessEngine,
    sessions: Sequence[WorkloadSession],
    arrivals: Sequence[float],
    in_place: bool,
) -> ReplayRecord:
    """The loop for one engine without a router: turns that are due, then a step."""
    starts = zip(sessions, arrivals, strict=True)
    players = [Player(f"s{i}", spec, at) for i, (spec, at) in enumerate(starts)]
    contexts = [0] * len(players)
    due = [(player.arrives_at, i) for i, player in enumerate(players)]
    active: dict[str, int] = {}
    while due or active or engine.has_work():
        while due and due[0][0] <= engine.now_seconds:
            _, i = heapq.heappop(due)
            segment = players[i].begin_turn(engine.now_seconds).segment
            before = contexts[i]
            contexts[i] += segment.append_tokens
            name = f"s{i}" if in_place else f"s{i}/{len(players[i].turns)}"
            active[name] = i
            engine.submit(
                name,
                f"s{i}",
                segment.append_tokens if in_place else contexts[i],
                segment.output_tokens,
                resumable=in_place,
                endpoint=segment.endpoint,
                computed_before=0 if in_place else max(0, before - 1),
            )
        if not engine.has_work():
            if not due:
                break
            engine.now_seconds = due[0][0]
            continue
        for name, tokens, over in engine.step(due[0][0] if due else float("inf")):
            i = active[name]
            players[i].turns[-1].receive(tokens, engine.now_seconds)
            contexts[i] += tokens
            if not over:
                continue
            players[i].end_turn(engine.now_seconds)
            del active[name]
            pause = players[i].turns[-1].segment.pause_seconds
            if pause is not None:
                heapq.heappush(due, (engine.now_seconds + pause, i))
            elif in_place:
                engine.close(name)
    return ReplayRecord(tuple(p.record() for p in players), 0.0, engine.now_seconds)


@pytest.mark.parametrize("policy", ["stock", "swap", "min-waste"])
@pytest.mark.parametrize("router", ["sticky", "hash", "least"])
def test_one_engine_is_to_the_last_bit_what_it_is_without_a_router(
    policy: str, router: str
) -> None:
    run = planned(policy, engines=1, router=router, stale_seconds=0.5)
    (engine,), record = simulated(run)
    sessions = run.arrivals.sessions
    (alone,) = engines_of(run, {f"s{i}": session for i, session in enumerate(sessions)})
    assert isinstance(alone, HeadlessEngine)
    plain = replayed_alone(alone, sessions, run.arrivals.seconds, policy != "stock")
    assert record.sessions == plain.sessions
    assert record.finished_at == plain.finished_at
    assert (engine.steps, engine.scheduled_tokens) == (alone.steps, alone.scheduled_tokens)
    assert record.moved_turns == 0


def test_sticky_sessions_never_move_and_others_compute_their_contexts_again() -> None:
    for policy in ("min-waste", "stock"):
        sticky, least = outcome(policy).report, outcome(policy, "least").report
        assert sticky.completed == least.completed == sticky.sessions == 60
        assert sticky.moved_turns_share == 0
        assert least.moved_turns_share > 0.4
        assert least.recomputed_tokens > 1.2 * sticky.recomputed_tokens
        assert least.normalized_latency_ms.mean > sticky.normalized_latency_ms.mean


def test_a_hash_spreads_sessions_and_keeps_them() -> None:
    report = outcome(router="hash").report
    assert report.completed == report.sessions
    assert report.moved_turns_share == 0
    assert 0 < report.computed_tokens.lowest < report.computed_tokens.highest
    total = 3 * report.computed_tokens.mean
    assert total == pytest.approx(report.scheduled_tokens)


def test_a_fleet_is_the_same_each_time() -> None:
    again = simulate(planned(router="least"))
    assert again.report == outcome(router="least").report
    assert again.replay == outcome(router="least").replay


def test_rates_are_per_engine_and_so_is_what_is_done() -> None:
    one, three = planned(engines=1), planned(engines=3)
    gaps = [run.arrivals.seconds[-1] for run in (one, three)]
    assert gaps[0] == pytest.approx(3 * gaps[1])
    report = outcome().report
    assert report.rate == 6.0
    in_all = report.completed / report.simulated_seconds
    assert report.completed_per_second == pytest.approx(in_all / 3, rel=0.05)


class Watching:
    """Sends everything to the engine that it was told, and notes what it sees."""

    seen: list[tuple[DueTurn, EngineLoads]] = []

    def place(self, turn: DueTurn, loads: EngineLoads) -> int:
        snapshot = replace(
            loads,
            tokens_in_charge=loads.tokens_in_charge.copy(),
            open_turns=loads.open_turns.copy(),
            paused_sessions=loads.paused_sessions.copy(),
        )
        self.seen.append((turn, snapshot))
        return turn.home if turn.home is not None else int(loads.engines[-1])


def watched(**changes: object) -> list[tuple[DueTurn, EngineLoads]]:
    Watching.seen = []
    simulate(planned(router=f"{__name__}:Watching", **changes))
    return Watching.seen


def test_a_router_of_ones_own_sees_loads_and_turns() -> None:
    seen = watched(sessions=6)
    first, loads = seen[0]
    assert (first.session, first.number, first.home, first.context_tokens) == ("s0", 0, None, 0)
    assert loads.engines.tolist() == [0, 1, 2]
    assert loads.total == 3
    assert loads.tokens_in_charge.sum() == 0
    _, loads = seen[1]
    assert (loads.open_turns + loads.paused_sessions).tolist() == [0, 0, 1]
    assert loads.tokens_in_charge[2] >= first.new_tokens
    returned = next(turn for turn, _ in seen if turn.number == 1)
    assert returned.home == 2
    assert returned.context_tokens > returned.new_tokens
    assert any(loads.paused_sessions[2] > 0 for _, loads in seen)
    times = [turn.now_seconds for turn, _ in seen]
    assert times == sorted(times)


def test_paused_and_open_sessions_add_up_to_those_that_have_not_ended() -> None:
    (run, seen) = planned(sessions=8, router="sticky"), watched(sessions=8)
    turns = {f"s{i}": len(s.segments) for i, s in enumerate(run.arrivals.sessions)}
    for turn, loads in seen:
        known = int(loads.open_turns.sum() + loads.paused_sessions.sum())
        assert 0 <= known <= len(turns)
        assert (loads.tokens_in_charge >= 0).all()
        if turn.home is not None:
            assert loads.paused_sessions[turn.home] >= 1
    assert turns.keys() == {turn.session for turn, _ in seen}


def test_a_stale_router_knows_only_what_it_has_sent_since_its_last_look() -> None:
    fresh, stale = watched(sessions=12), watched(sessions=12, stale_seconds=1000.0)
    # Nothing that ended or was generated is known: loads only grow.
    for loads in stale:
        assert loads[1].paused_sessions.sum() == 0
    assert all(
        (after.open_turns >= before.open_turns).all() for (_, before), (_, after) in pairwise(stale)
    )
    assert stale[-1][1].open_turns.sum() == len(stale) - 1
    assert fresh[-1][1].open_turns.sum() < len(fresh) / 2


def test_loads_are_seen_again_after_each_interval() -> None:
    seen = watched(sessions=12, stale_seconds=5.0)
    assert any(loads.paused_sessions.sum() for _, loads in seen)
    early = [loads for turn, loads in seen if turn.now_seconds < 5.0]
    assert not any(loads.paused_sessions.sum() for loads in early)


class Lost:
    """Chooses an engine that there is not."""

    def place(self, turn: DueTurn, loads: EngineLoads) -> int:
        return 3


def test_a_router_that_chooses_no_engine_is_named() -> None:
    with pytest.raises(ReplayError, match=r"Lost chose engine 3 .* engines 0, 1, 2 take turns"):
        simulate(planned(router=f"{__name__}:Lost"))


@pytest.mark.parametrize("policy", ["min-waste", "stock"])
@pytest.mark.parametrize("router", ["sticky", "hash", "least"])
def test_a_failed_engine_loses_what_it_has_and_no_session(policy: str, router: str) -> None:
    run = planned(policy, router=router, fail=("2:1",))
    engines, record = simulated(run)
    assert engines[1].now_seconds < 3.0
    lost = [
        turn
        for session in record.sessions
        for turn in session.turns
        if turn.submitted_at < 2.0 and turn.first_token_at >= 2.0 + DETECTION_SECONDS
    ]
    assert lost, "nobody's turn was under way"
    for asked, session in zip(run.arrivals.sessions, record.sessions, strict=True):
        assert [turn.output_tokens for turn in session.turns] == [
            segment.output_tokens for segment in asked.segments
        ]
    if router != "least":
        assert record.moved_turns > 0


@pytest.mark.parametrize("policy", ["min-waste", "stock"])
def test_a_drained_engine_finishes_its_turns_and_takes_no_more(policy: str) -> None:
    engines, record = simulated(planned(policy, drain=("2:1",)))
    assert 2.0 <= engines[1].now_seconds < engines[0].now_seconds
    assert all(session.turns[-1].finished_at for session in record.sessions)
    assert record.moved_turns > 0
    failed = simulate(planned(policy, fail=("2:1",))).report
    drained = simulate(planned(policy, drain=("2:1",))).report
    assert drained.scheduled_tokens < failed.scheduled_tokens


def test_outages_are_given_as_a_time_and_an_engine() -> None:
    settings = SETTINGS.model_copy(update={"fail": ("40:0",), "drain": ("1.5:2",)})
    assert settings.outages == (
        Outage(40.0, 0, OutageKind.FAIL),
        Outage(1.5, 2, OutageKind.DRAIN),
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fail": "40"}, "'40' is not SECONDS:ENGINE, such as 40:0"),
        ({"drain": "soon:1"}, "'soon:1' is not SECONDS:ENGINE"),
        ({"fail": "-1:0"}, "'-1:0' is not SECONDS:ENGINE"),
        ({"fail": "1:3"}, "no engine 3 to fail: engines are numbered from 0 to 2"),
        ({"fail": "1:0", "drain": "2:0"}, "can go away only once"),
        ({"fail": "1:0,1:1", "drain": "2:2"}, "all engines go away"),
        ({"engines": 1, "fail": "1:0"}, "all engines go away"),
        ({"router": "best"}, "unknown router 'best'; choose sticky, hash, least"),
        ({"router": "nowhere:Router"}, "router 'nowhere:Router' cannot be made"),
        ({"router": f"{__name__}:SETTINGS"}, "cannot be made"),
        ({"router": "fractions:Fraction"}, r"has no method place\(turn, loads\)"),
        ({"trace_path": "trace.json"}, "a trace is of one engine"),
        ({"engines": 0}, "greater than 0"),
        ({"stale_seconds": -1.0}, "greater than or equal to 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SimulationSettings.model_validate(
            {**SETTINGS.model_dump(exclude={"horizon_seconds"}), **changes}
        )


def test_the_command_says_how_engines_shared_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    command = [
        "simulate", "--engines", "3", "--router", "least", "--stale", "0.1", "--fluid",
        "--policies", "stock,min-waste", "--rates", "5", "--seeds", "0", "--sessions", "90",
        "--kv-memory", "3GB", "--host-memory", "1GB", "--fail", "2:1", "--drain", "4:2",
        "--processes", "2", "--json", str(path),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["caesura", *command])
    cli.run(command)
    results = json.loads(path.read_text("utf-8"))
    assert results["settings"]["engines"] == 3
    assert results["settings"]["fail"] == ["2:1"]
    for run in results["runs"]:
        assert (run["engines"], run["router"], run["rate"]) == (3, "least", 5.0)
        assert run["completed"] == run["sessions"] == 90
        assert 0 < run["moved_turns_share"] < 1
        spread = run["computed_tokens"]
        assert spread["lowest"] < spread["mean"] < spread["highest"]
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 engines: sessions/s, done/s and good/s are per engine" in shown
    assert "least" in shown
