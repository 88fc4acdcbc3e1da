import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.lab.bench.workload import (
    Segment,
    WorkloadError,
    WorkloadSession,
    clip_context,
    load_jsonl,
    parse_jsonl,
    poisson_arrivals,
    sample,
    scaled,
)

SEGMENTS: list[dict[str, object]] = [
    {"append": 9, "output": 3, "pause_s": 0.5, "endpoint": "calculator"},
    {"append": 2, "output": 4},
]
GOOD: dict[str, object] = {"id": "a", "class": "math", "segments": SEGMENTS}

lengths = st.integers(1, 5000)


@st.composite
def session_specs(draw: st.DrawFn) -> WorkloadSession:
    paused = st.builds(Segment, lengths, lengths, st.floats(0, 1e4), st.sampled_from(["a", None]))
    segments = (*draw(st.lists(paused, max_size=6)), draw(st.builds(Segment, lengths, lengths)))
    return WorkloadSession(draw(st.uuids().map(str)), "kind", segments)


def workload_of(n: int) -> list[WorkloadSession]:
    return [WorkloadSession(f"s{i}", "kind", (Segment(1, 1),)) for i in range(n)]


def as_line(session: WorkloadSession) -> str:
    segments: list[dict[str, object]] = []
    for segment in session.segments:
        line: dict[str, object] = {"append": segment.append_tokens, "output": segment.output_tokens}
        if segment.pause_seconds is not None:
            line["pause_s"] = segment.pause_seconds
        if segment.endpoint is not None:
            line["endpoint"] = segment.endpoint
        segments.append(line)
    return json.dumps({"id": session.id, "class": session.kind, "segments": segments})


def with_segment(index: int, **changes: object) -> str:
    segments = [dict(segment) for segment in SEGMENTS]
    segments[index] |= changes
    return json.dumps({**GOOD, "segments": segments})


def test_a_trace_becomes_sessions() -> None:
    (session,) = parse_jsonl(f"\n{json.dumps(GOOD)}\n\n", name="t.jsonl")
    assert session == WorkloadSession(
        "a", "math", (Segment(9, 3, 0.5, "calculator"), Segment(2, 4, None, None))
    )
    assert session.context_tokens == 18
    assert session.output_tokens == 7


@given(st.lists(session_specs(), min_size=1, max_size=5, unique_by=lambda s: s.id))
def test_what_is_written_is_loaded(sessions: list[WorkloadSession]) -> None:
    assert parse_jsonl("\n".join(map(as_line, sessions)), name="t.jsonl") == sessions


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        (json.dumps({**GOOD, "segments": []}), "segments: List should have at least 1"),
        (json.dumps({**GOOD, "id": ""}), "id: "),
        (json.dumps({key: GOOD[key] for key in ("id", "segments")}), "class: Field required"),
        (with_segment(0, append=-9), "segments.0.append: Input should be greater than 0"),
        (with_segment(1, append=0), "segments.1.append: Input should be greater than 0"),
        (with_segment(1, output=0), "segments.1.output: Input should be greater than 0"),
        (with_segment(1, output=1.5), "segments.1.output: Input should be a valid integer"),
        (with_segment(1, output=True), "segments.1.output: "),
        (with_segment(0, pause_s=-1.0), "segments.0.pause_s: "),
        (with_segment(0, pause_s=float("inf")), "segments.0.pause_s: "),
        (with_segment(0, pause_s=None), "segments.0 is not the last one and has no pause_s"),
        (with_segment(1, pause_s=1.0), "segments.1 is the last one and must not have a pause_s"),
        (with_segment(0, endpoint=3), "segments.0.endpoint: "),
        (json.dumps(GOOD), "id 'a' is already on line 1"),
    ],
)
def test_a_wrong_line_is_named_with_file_line_and_reason(line: str, reason: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        parse_jsonl(f"{json.dumps(GOOD)}\n\n{line}\n", name="t.jsonl")
    assert str(caught.value).startswith("t.jsonl:3: ")
    assert reason in str(caught.value)


def test_a_trace_without_sessions_is_refused() -> None:
    with pytest.raises(WorkloadError, match=r"t\.jsonl: there are no sessions"):
        parse_jsonl("\n  \n", name="t.jsonl")


def test_a_file_is_loaded_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert [session.id for session in load_jsonl(path)] == ["a"]
    with pytest.raises(WorkloadError, match=r"absent\.jsonl: the workload cannot be read"):
        load_jsonl(tmp_path / "absent.jsonl")


@given(st.lists(session_specs(), max_size=4), st.floats(1e-4, 10), st.floats(0, 10))
def test_scaled_lengths_are_rounded_and_at_least_one(
    sessions: list[WorkloadSession], tokens: float, pauses: float
) -> None:
    for before, after in zip(sessions, scaled(sessions, tokens, pauses), strict=True):
        assert (after.id, after.kind) == (before.id, before.kind)
        for old, new in zip(before.segments, after.segments, strict=True):
            assert new.append_tokens == max(1, round(old.append_tokens * tokens))
            assert new.output_tokens == max(1, round(old.output_tokens * tokens))
            assert new.endpoint == old.endpoint
            if old.pause_seconds is None:
                assert new.pause_seconds is None
            else:
                assert new.pause_seconds == old.pause_seconds * pauses


@given(st.lists(session_specs(), max_size=4))
def test_scaling_by_one_changes_nothing(sessions: list[WorkloadSession]) -> None:
    assert scaled(sessions, tokens=1, pauses=1) == sessions


@pytest.mark.parametrize(("tokens", "pauses"), [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0)])
def test_factors_that_make_no_sense_are_refused(tokens: float, pauses: float) -> None:
    with pytest.raises(WorkloadError, match="can only be scaled"):
        scaled(workload_of(1), tokens, pauses)


@given(st.lists(session_specs(), max_size=8), st.integers(1, 30_000))
def test_clipped_sessions_fit_and_are_as_long_as_can_be(
    sessions: list[WorkloadSession], max_context_tokens: int
) -> None:
    clipped = clip_context(sessions, max_context_tokens)
    whole = {session.id: session for session in sessions}
    truncated = 0
    for session in clipped.sessions:
        original = whole[session.id]
        turns = len(session.segments)
        assert session.context_tokens <= max_context_tokens
        assert session.segments[-1].pause_seconds is None
        assert session.segments[-1].endpoint is None
        assert session.segments[:-1] == original.segments[: turns - 1]
        if turns < len(original.segments):
            truncated += 1
            longer = session.context_tokens + original.segments[turns].tokens
            assert longer > max_context_tokens
        else:
            assert session == original
    assert clipped.truncated == truncated
    assert clipped.dropped == len(sessions) - len(clipped.sessions)


@given(st.integers(1, 20), st.integers(1, 50), st.integers(0, 2**31))
def test_a_sample_exhausts_the_workload_before_it_repeats(
    available: int, wanted: int, seed: int
) -> None:
    drawn = sample(workload_of(available), wanted, seed)
    assert len(drawn) == wanted
    assert len({session.id for session in drawn}) == wanted
    originals = [session.id.partition("~")[0] for session in drawn]
    assert len(set(originals[:available])) == min(available, wanted)
    assert drawn == sample(workload_of(available), wanted, seed)


def test_samples_differ_by_seed() -> None:
    sessions = workload_of(50)
    assert sample(sessions, 50, seed=0) != sample(sessions, 50, seed=1)


@pytest.mark.parametrize(("available", "wanted"), [(0, 1), (1, 0), (1, -1)])
def test_a_sample_of_nothing_is_refused(available: int, wanted: int) -> None:
    with pytest.raises(WorkloadError, match="cannot sample"):
        sample(workload_of(available), wanted, seed=0)


@given(st.integers(1, 100), st.floats(0.01, 100), st.integers(0, 2**31))
def test_arrivals_start_at_zero_and_never_go_back(n: int, rate: float, seed: int) -> None:
    arrivals = poisson_arrivals(n, rate, seed)
    assert len(arrivals) == n
    assert arrivals[0] == 0
    assert arrivals == sorted(arrivals)


def test_arrivals_come_at_the_rate_and_stretch_with_it() -> None:
    slow, fast = poisson_arrivals(5000, 2, seed=3), poisson_arrivals(5000, 4, seed=3)
    assert slow[-1] / 5000 == pytest.approx(0.5, rel=0.05)
    assert fast == pytest.approx([time / 2 for time in slow])


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(WorkloadError, match="rate"):
        poisson_arrivals(3, 0, seed=0)


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_marks_and_separators_inside_of_a_file_are_text(tmp_path: Path, line_break: str) -> None:
    segments = [{"append": 5, "output": 5}]
    ids = ["a\u2028b", "c\u0085d", "e\u2029f\x0cg"]
    lines = [
        json.dumps({"id": one, "class": "c", "segments": segments}, ensure_ascii=False)
        for one in ids
    ]
    file = tmp_path / "t.jsonl"
    file.write_bytes(("\ufeff" + line_break.join([*lines, "", ""])).encode())
    assert [session.id for session in load_jsonl(file)] == ids
    file.write_bytes(line_break.join([*lines, lines[0][:20]]).encode())
    with pytest.raises(WorkloadError, match=r"t\.jsonl:4: "):
        load_jsonl(file)
