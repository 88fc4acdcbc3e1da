"""Traces: what the recorder writes, and what a run in virtual time leaves in it."""

import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from rich.console import Console

from caesura import cli
from caesura.engine.config import CaesuraConfig
from caesura.engine.copies.batch import CopyBatch
from caesura.engine.copies.contexts import HostCopy
from caesura.engine.flags import additional_config
from caesura.engine.pauses.pause import Pause, PauseEnding
from caesura.engine.tracing.recorder import ITERATIONS, NO_TRACE, STILL_OPEN, TraceRecorder
from caesura.engine.tracing.trace_events import TraceEvents, engine_path, section_path
from caesura.lab.bench.stats import RunPlan
from caesura.lab.bench.traces import engine_part, engine_parts, simulated_part, traced
from caesura.lab.sim.profiles import device_profile
from caesura.lab.sim.simulate import plan_simulation
from caesura.lab.sim.simulated_run import simulate
from caesura.lab.sim.simulation import SimulatedOutcome
from caesura.policy import Service
from support.lab.simulations import SWAPPING

PROFILE = device_profile("a100-80gb", "gpt-j-6b")
SETTINGS = SWAPPING.model_copy(update={"link_bytes_per_second": 2 * 10**9})
COPIES = {"copies out", "copies in", "urgent copies"}
Event = dict[str, Any]


@dataclass(frozen=True)
class Traced:
    """The events of a trace, and the run that they are of."""

    run: SimulatedOutcome | None
    events: list[Event]

    @property
    def outcome(self) -> SimulatedOutcome:
        assert self.run is not None
        return self.run

    @property
    def iterations(self) -> list[Event]:
        return self.on_track(ITERATIONS)

    @property
    def tracks(self) -> dict[str, int]:
        named = (event for event in self.events if event["name"] == "thread_name")
        return {event["args"]["name"]: event["tid"] for event in named}

    @property
    def pauses(self) -> list[Event]:
        return [e for e in self.events if e["ph"] == "X" and "ending" in e.get("args", ())]

    def on_track(self, name: str) -> list[Event]:
        slices = [e for e in self.events if e["ph"] == "X" and e["tid"] == self.tracks[name]]
        return sorted(slices, key=lambda event: event["ts"])

    def copies(self, name: str) -> list[tuple[Event, Event]]:
        """Pairs of begin and end."""
        pairs: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            if event["ph"] in ("b", "e") and event["name"] == name:
                pairs[event["id2"]["local"]].append(event)
        assert all([e["ph"] for e in pair] == ["b", "e"] for pair in pairs.values())
        return [(begin, end) for begin, end in pairs.values()]

    def sum(self, name: str) -> int:
        return sum(event["args"][name] for event in self.iterations)


@cache
def run(policy: str, *, link_overlaps: bool = True) -> Traced:
    profile = replace(PROFILE, link_overlaps=link_overlaps)
    with TemporaryDirectory() as directory:
        settings = SETTINGS.model_copy(
            update={"policies": (policy,), "trace_path": Path(directory) / "trace.json"}
        )
        (planned,) = plan_simulation(settings, profile)
        outcome = simulate(planned)
        part = simulated_part(settings, planned.plan)
        assert part is not None
        return Traced(outcome, load(part)["traceEvents"])


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


# The file


def written(events: TraceEvents, path: Path) -> list[Event]:
    events.write(path)
    return [event for event in load(path)["traceEvents"] if event["ph"] != "M"]


def test_seconds_of_the_clock_become_microseconds_of_the_section(tmp_path: Path) -> None:
    events = TraceEvents("engine", origin_seconds=100.0)
    events.slice("track", "work", 100.25, 100.5, {"tokens": 3})
    events.instant("track", "thing", 101.0, {})
    events.slice("track", "before", 99.0, 100.1, {})
    before, work, thing = written(events, tmp_path / "trace.json")
    assert (work["ts"], work["dur"], work["args"]) == (250_000, 250_000, {"tokens": 3})
    assert (thing["ph"], thing["ts"], thing["s"]) == ("i", 1_000_000, "t")
    assert (before["ts"], before["dur"]) == (0, 100_000)


def test_a_slice_inside_of_another_that_begins_with_it_comes_after_it(tmp_path: Path) -> None:
    events = TraceEvents("engine", 0.0)
    events.slice("track", "inner", 1.0, 2.0, {})
    events.slice("track", "outer", 1.0, 3.0, {})
    names = [event["name"] for event in written(events, tmp_path / "trace.json")]
    assert names == ["outer", "inner"]


def test_counters_are_entered_when_they_change(tmp_path: Path) -> None:
    events = TraceEvents("engine", 0.0)
    for at, running in enumerate([1, 1, 2, 2, 1]):
        events.levels("requests", at, {"running": running})
    values = [event["args"]["running"] for event in written(events, tmp_path / "trace.json")]
    assert values == [1, 2, 1]


def test_a_full_trace_says_what_it_lacks_and_from_when_on(tmp_path: Path) -> None:
    events = TraceEvents("engine", 0.0, max_events=3)
    for at in range(5):
        events.slice("track", "work", at, at + 0.5, {})
    path = tmp_path / "trace.json"
    *kept, note = written(events, path)
    assert [event["ts"] for event in kept] == [0, 1_000_000, 2_000_000]
    assert (note["name"], note["ts"]) == ("truncated: 2 later events were not kept", 3_000_000)
    assert load(path)["otherData"]["truncated"] == note["name"]
    assert load(path)["traceEvents"][0]["args"]["name"] == "engine (truncated)"


def test_no_copy_is_left_without_its_end_when_the_trace_is_full(tmp_path: Path) -> None:
    events = TraceEvents("engine", 0.0, max_events=3)
    for number in range(2):
        events.overlapping("copies out", str(number), 0.0, 1.0, {})
    phases = Counter(event["ph"] for event in written(events, tmp_path / "trace.json"))
    assert phases["b"] == phases["e"] == 1


def test_sections_have_files_of_their_own() -> None:
    assert section_path(Path("out/swap.json"), 0) == Path("out/swap.json")
    assert section_path(Path("out/swap.json"), 2) == Path("out/swap.2.json")


def test_each_engine_of_a_server_has_files_of_its_own() -> None:
    paths = [engine_path(Path("out/swap.json"), engine) for engine in range(3)]
    assert [path.name for path in paths] == ["swap.json", "swap.engine1.json", "swap.engine2.json"]
    assert section_path(paths[1], 1).name == "swap.engine1.1.json"


# The recorder


class Recording:
    """A recorder on a clock that the test sets."""

    def __init__(self, directory: Path) -> None:
        self.now = 50.0
        self.path = directory / "trace.json"
        self.trace = TraceRecorder(
            self.path, "swap", lambda: self.now, lambda: {}, block_bytes=1000, max_events=100
        )

    def pause(self, pause_id: str) -> Pause:
        pause = Pause(
            id=pause_id,
            endpoint="tool",
            service=Service(0.0),
            paused_seconds=self.now,
            context_tokens=32,
            total_tokens=33,
            prompt_tokens=20,
            block_hashes=[],
            block_size=16,
            copy=HostCopy(pause_id, []),
        )
        self.trace.pause_began(pause)
        return pause

    def events(self, section: int = 0) -> Traced:
        return Traced(None, load(section_path(self.path, section))["traceEvents"])


def test_a_client_that_sends_a_new_request_for_each_turn_has_one_track(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for number in range(3):
        pause = recording.pause(f"request-{number}")
        recording.now += 2.0
        pause.claimed_by = f"request-{number + 1}"
        recording.trace.claimed(pause)
        recording.now += 1.0
        recording.trace.pause_ended(pause, PauseEnding.RESUMED)
    recording.trace.write()
    assert recording.events().tracks.keys() == {ITERATIONS, "request-0"}
    on_track = recording.events().on_track("request-0")
    assert [event["name"] for event in on_track] == ["tool", "returning"] * 3
    assert [event["dur"] for event in on_track] == [3_000_000, 1_000_000] * 3


def test_what_is_open_when_a_section_is_written_ends_with_it(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    pause = recording.pause("request")
    recording.trace.copies_launched(CopyBatch(7, stores=[(1, 2), (3, 4)]))
    recording.now += 1.0
    recording.trace.write()
    recording.trace.copies_finished(7, succeeded=True)
    recording.trace.pause_ended(pause, PauseEnding.CANCELLED)
    recording.trace.write()
    (open_pause,) = recording.events().pauses
    assert (open_pause["dur"], open_pause["args"]["ending"]) == (1_000_000, STILL_OPEN)
    ((begin, end),) = recording.events().copies("copies out")
    assert end["ts"] - begin["ts"] == 1_000_000
    assert begin["args"] == {"blocks": 2, "bytes": 2000, "ending": STILL_OPEN}
    assert not section_path(recording.path, 1).exists()  # nothing began in it


def test_every_section_starts_at_zero(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for _ in range(2):
        recording.now += 1.0
        pause = recording.pause("request")
        recording.now += 1.0
        recording.trace.pause_ended(pause, PauseEnding.CANCELLED)
        recording.trace.write()
    assert [recording.events(n).pauses[0]["ts"] for n in (0, 1)] == [1_000_000] * 2


def test_the_ways_of_a_copy_are_told_apart(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    batch = CopyBatch(1, [(0, 0)], [(1, 1)], loads=[(2, 2)], stores=[(3, 3), (4, 4), (5, 5)])
    recording.trace.copies_launched(batch)
    recording.trace.copies_finished(1, succeeded=False)
    recording.trace.write()
    copies = {name: recording.events().copies(name) for name in COPIES}
    blocks = {name: begin["args"]["blocks"] for name, ((begin, _),) in copies.items()}
    assert blocks == {"copies out": 3, "copies in": 1, "urgent copies": 2}
    assert {begin["args"]["ending"] for ((begin, _),) in copies.values()} == {"failed"}


# A run


@pytest.mark.parametrize("policy", ["stock", "preserve", "swap", "discard", "ttl"])
def test_a_run_leaves_a_valid_trace(policy: str) -> None:
    traced_run = run(policy)
    tids = set(traced_run.tracks.values())
    for event in traced_run.events:
        assert event.keys() >= {"ph", "name", "pid", "tid", "ts"}
        assert event["ph"] in "MXiCbe"
        assert event["tid"] in tids
        assert event["ts"] >= 0
        assert event["ph"] != "X" or event["dur"] >= 0
    assert traced_run.events[0]["name"] == "process_name"


@pytest.mark.parametrize("policy", ["stock", "preserve", "swap", "discard", "ttl"])
def test_iterations_follow_each_other_and_make_up_all_that_was_computed(policy: str) -> None:
    traced_run = run(policy)
    for one, other in pairwise(traced_run.iterations):
        assert one["ts"] + one["dur"] <= other["ts"]
    report = traced_run.outcome.report
    assert traced_run.sum("query_tokens") == report.scheduled_tokens
    parts = (traced_run.sum(f"{kind}_tokens") for kind in ("prefill", "decode", "recomputed"))
    assert sum(parts) == report.scheduled_tokens


@pytest.mark.parametrize("policy", ["stock", "preserve", "swap", "discard", "ttl"])
def test_recomputed_tokens_are_those_of_the_report(policy: str) -> None:
    report = run(policy).outcome.report
    assert run(policy).sum("recomputed_tokens") == report.recomputed_tokens
    if policy in ("stock", "discard"):
        assert report.recomputed_tokens


@pytest.mark.parametrize("policy", ["preserve", "swap", "discard", "ttl"])
def test_every_pause_ends_on_the_track_of_its_session(policy: str) -> None:
    traced_run = run(policy)
    sessions = {event["tid"] for event in traced_run.pauses}
    endings = Counter(event["args"]["ending"] for event in traced_run.pauses)
    turns = [turn for session in traced_run.outcome.replay.sessions for turn in session.turns]
    assert sum(endings.values()) == len(turns)
    assert endings["resumed"] == len(turns) - traced_run.outcome.report.sessions
    assert STILL_OPEN not in endings
    assert len(sessions) == traced_run.outcome.report.sessions
    for tid in sessions:
        slices = sorted((e["ts"], e["ts"] + e["dur"]) for e in traced_run.pauses if e["tid"] == tid)
        assert all(one[1] <= other[0] for one, other in pairwise(slices))


def test_a_resume_says_where_its_context_came_from() -> None:
    resumed = [e["args"] for e in run("swap").pauses if e["args"]["ending"] == "resumed"]
    for args in resumed:
        found = (args[f"resumed_{how}"] for how in ("from_device", "from_host", "by_computing"))
        assert sum(found) == args["context_tokens"]
    assert any(args["resumed_from_host"] for args in resumed)


def test_decisions_and_ends_of_holds_are_within_their_pauses() -> None:
    traced_run = run("swap")
    instants = [event for event in traced_run.events if event["ph"] == "i"]
    assert {"swap", "hold copied"} <= {event["name"] for event in instants}
    assert "hold expired" in {e["name"] for e in run("ttl").events if e["ph"] == "i"}
    for event in instants:
        assert any(
            pause["tid"] == event["tid"]
            and pause["ts"] <= event["ts"] <= pause["ts"] + pause["dur"]
            for pause in traced_run.pauses
        )


def test_copies_overlap_with_iterations_where_the_link_can() -> None:
    traced_run = run("swap")
    assert traced_run.copies("copies out")
    assert traced_run.copies("copies in")
    # An iteration copies no more than the link moves meanwhile, so a copy may be over with it.
    computing = [(event["ts"], event["ts"] + event["dur"]) for event in traced_run.iterations]
    for name in ("copies out", "copies in"):
        spans = [(begin["ts"], end["ts"]) for begin, end in traced_run.copies(name)]
        assert all(begin <= end for begin, end in spans)
        assert any(
            max(begin, start) < min(end, stop) for begin, end in spans for start, stop in computing
        )


def test_copies_out_are_those_that_were_counted() -> None:
    traced_run = run("swap")
    copied = sum(begin["args"]["blocks"] for begin, _ in traced_run.copies("copies out"))
    urgent_out = (traced_run.outcome.report.copied_tokens or 0) // 16 - copied
    urgent = sum(begin["args"]["blocks"] for begin, _ in traced_run.copies("urgent copies"))
    assert 0 <= urgent_out <= urgent
    begin, _ = traced_run.copies("copies out")[0]
    assert begin["args"]["bytes"] == begin["args"]["blocks"] * 16 * PROFILE.kv_bytes_per_token


def test_where_the_link_cannot_overlap_copies_are_over_with_their_iteration() -> None:
    traced_run = run("swap", link_overlaps=False)
    ends = {event["ts"]: event["ts"] + event["dur"] for event in traced_run.iterations}
    pairs = [pair for name in COPIES for pair in traced_run.copies(name)]
    with_computation = [(begin, end) for begin, end in pairs if begin["ts"] in ends]
    assert with_computation
    assert all(end["ts"] == ends[begin["ts"]] for begin, end in with_computation)


def test_counters_show_queues_and_memory() -> None:
    counters: dict[str, set[str]] = defaultdict(set)
    for event in run("swap").events:
        if event["ph"] == "C":
            counters[event["name"]] |= event["args"].keys()
    assert counters == {
        "requests": {"running", "waiting", "paused"},
        "device tokens": {"free"},
        "host tokens": {"used"},
    }


def test_a_trace_changes_nothing() -> None:
    (planned,) = plan_simulation(SETTINGS, PROFILE)
    outcome = simulate(planned)
    assert outcome.replay == run("swap").outcome.replay
    assert outcome.report == run("swap").outcome.report


def test_without_one_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TraceEvents, "_add", lambda *_: pytest.fail("an event was recorded"))
    (planned,) = plan_simulation(SETTINGS, PROFILE)
    simulate(planned)
    assert list(tmp_path.iterdir()) == []
    assert vars(NO_TRACE) == {}


# Through the bench and the command line


def test_the_option_crosses_to_the_engine() -> None:
    config = CaesuraConfig(policy="preserve", trace=Path("out/trace.json"))
    section = json.loads(json.dumps(additional_config(config)))["caesura"]
    assert CaesuraConfig.parse(section).trace == Path("out/trace.json")


def test_runs_of_engines_are_found_by_their_order(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"policies": ("stock", "swap"), "trace_path": tmp_path / "trace.json"}
    )
    plans = [RunPlan(p, s, 6.0) for s in (0, 1) for p in ("stock", "swap")]
    engine = engine_part(settings, "swap")
    assert engine is not None

    def run_until_stopped() -> None:
        with traced(settings, plans, engine_parts, Console(quiet=True)):
            for number, max_events in enumerate((10, 10, 1)):
                events = TraceEvents("swap", 0.0, max_events)
                events.slice("iterations", f"of run {number}", 0.0, 1.0, {})
                events.slice("iterations", "late", 1.0, 2.0, {})
                events.write(section_path(engine, number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_until_stopped()
    trace = load(tmp_path / "trace.json")
    assert names_of(trace) == {
        "swap rate 6 seed 0": {"of run 1", "late"},
        "swap rate 6 seed 1 (truncated)": {"of run 2"},
    }
    assert trace["otherData"]["truncated"].keys() == {"swap rate 6 seed 1"}
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def names_of(trace: dict[str, Any]) -> dict[str, set[str]]:
    """Names of slices by that of their process."""
    events = trace["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    slices: dict[str, set[str]] = {name: set() for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            slices[names[event["pid"]]].add(event["name"])
    assert len(names) == len(slices)
    return slices


def test_simulate_writes_one_trace_of_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "trace.json"
    command = [
        "simulate", "--workload", "infercept-sample", "--policies", "stock,swap", "--rates", "6",
        "--seeds", "0,1", "--sessions", "4", "--scale-tokens", "0.25", "--scale-pauses", "0.2",
        "--kv-memory", "2GB", "--host-memory", "1GB", "--processes", "1", "--trace", str(path),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["caesura", *command])
    cli.run(sys.argv[1:])
    slices = names_of(load(path))
    tracks = [e for e in load(path)["traceEvents"] if e["name"] == "thread_name"]
    assert len({(e["pid"], e["tid"]) for e in tracks}) == len(tracks)
    assert [e["args"]["name"] for e in tracks if e["pid"] == e["tid"]] == [ITERATIONS] * 4
    assert slices.keys() == {f"{p} rate 6 seed {s}" for p in ("stock", "swap") for s in (0, 1)}
    assert all("decode" in names for names in slices.values())
    assert slices["stock rate 6 seed 0"] <= {"decode", "prefill", "recompute"}
    assert "returning" in slices["swap rate 6 seed 0"]
    assert [file.name for file in path.parent.iterdir()] == ["trace.json"]
    assert "ui.perfetto.dev" in capsys.readouterr().out
