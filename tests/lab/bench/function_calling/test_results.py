"""What becomes of runs: the contract of the JSON file, tables, ratios, the order of runs."""

import json
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from caesura import cli
from caesura.errors import CaesuraError
from caesura.lab.bench.function_calling.cases import Case, KnownCall
from caesura.lab.bench.function_calling.compare_modes import planned_cases
from caesura.lab.bench.function_calling.plans import IssueOrder
from caesura.lab.bench.function_calling.records import CaseRun, PlayedCase
from caesura.lab.bench.function_calling.report import FunctionCallingReport
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.stats import compare, comparisons, makespans, summaries
from caesura.lab.bench.function_calling.styles import USUAL_STYLES, Style
from caesura.lab.bench.results import Results
from caesura.lab.results_file import Origin
from caesura.session.calling import Timeline

RUN = CaseRun(
    suite="bfcl-parallel",
    mode="async",
    case="p0",
    repetition=0,
    order="longest-first",
    latency_s=0.5,
    calls_latency_s=0.45,
    generation_s=0.3,
    execution_s=0.6,
    bound_s=0.4,
    first_token_s=0.01,
    calls=3,
    traps=1,
    call_tokens=100,
    cml_tokens=26,
    correct=True,
)
RUNS = [
    replace(RUN, mode=mode, case=case, latency_s=seconds * factor, bound_s=seconds)
    for case, factor in (("p0", 1.1), ("p1", 1.2), ("p2", 1.3))
    for mode, seconds in (("sync", 1.0), ("sync_parallel", 0.8), ("async", 0.5))
]
SETTINGS = FunctionCallingSettings(
    suite="bfcl-parallel", data=Path("/somewhere/bfcl"), model="/models/tiny", cases=3
)


def played(run: CaseRun) -> PlayedCase:
    return PlayedCase(run, Timeline(0.0), {})


def test_the_file_has_what_scripts_depend_on(tmp_path: Path) -> None:
    path = tmp_path / "out" / "async.json"
    settings = SETTINGS.model_copy(update={"json_path": path})
    report = FunctionCallingReport(settings.suite, Counter({"no calls": 2}))
    results = Results[PlayedCase](settings, Origin("caesura bench calls"), report)
    for run in RUNS:
        results.add(played(run))
    written = json.loads(path.read_text())
    assert written["command"] == "caesura bench calls"
    assert written["machine"]["cores"] >= 1
    assert len(written["runs"]) == 9
    promised = "suite mode case latency_s generation_s execution_s bound_s calls correct"
    assert set(promised.split()) <= written["runs"][0].keys()
    assert "/somewhere" not in path.read_text()
    assert written["settings"]["model"] == "tiny"
    assert written["skipped"] == {"no calls": 2}


def test_modes_are_compared_case_by_case() -> None:
    sync, bundles, between = comparisons(RUNS)
    assert (sync.slower, sync.faster, sync.pairs) == ("sync", "async", 3)
    assert sync.ratio.median == pytest.approx(2)
    assert sync.low == sync.high == pytest.approx(2)
    assert bundles.of_means == bundles.bound == pytest.approx(1.6)
    assert (between.slower, between.faster) == ("sync", "sync_parallel")


def test_a_run_that_went_wrong_is_in_no_figure() -> None:
    wrong = replace(RUNS[0], correct=False, bound_s=0, latency_s=99)
    runs = [wrong, *RUNS[1:]]
    [sync, *_] = summaries(runs)
    assert (sync.runs, sync.correct) == (3, 2)
    assert sync.latency.high < 2
    comparison = compare(runs, "sync", "async")
    assert comparison is not None
    assert comparison.pairs == 2


def test_requests_are_compared_with_async_and_sync_with_each_way_to_do_better() -> None:
    others = ("requests", "futures", "sync_cached")
    more = [replace(run, mode=mode) for mode in others for run in RUNS if run.mode == "sync"]
    assert [(c.slower, c.faster) for c in comparisons([*more, *RUNS])] == [
        ("requests", "async"),
        ("futures", "async"),
        ("sync_cached", "async"),
        ("sync", "async"),
        ("sync_parallel", "async"),
        ("sync", "futures"),
        ("sync", "sync_cached"),
        ("sync", "sync_parallel"),
    ]


def test_eager_bundles_are_a_style_of_their_own() -> None:
    settings = SETTINGS.model_copy(update={"eager_bundles": True})
    assert settings.styles == [Style.SYNC, Style.SYNC_PARALLEL_EAGER, Style.ASYNC]


def test_orders_and_policies_are_arms_of_their_own() -> None:
    shuffled = [replace(run, order="random") for run in RUNS if run.mode == "async"]
    assert [c.slower for c in comparisons([*RUNS, *shuffled])] == [
        "sync",
        "sync_parallel",
        "async, random order",
        "sync",
    ]
    policies = [
        replace(RUN, policy=policy, seed=seed, latency_s=seconds)
        for seed in (0, 1)
        for policy, seconds in (("min-waste", 1.0), ("preserve", 1.5 + seed))
    ]
    [comparison] = comparisons(policies)
    assert (comparison.slower, comparison.faster, comparison.pairs) == ("preserve", "min-waste", 2)
    assert makespans(policies)["preserve", 1] == 2.5


def test_tables_and_report_say_what_was_measured() -> None:
    console = Console(width=150, record=True, file=StringIO())
    page = FunctionCallingReport("bfcl-parallel", {"no calls": 2}).page(list(map(played, RUNS)))
    page.show(console)
    shown = console.export_text()
    report = page.as_markdown(Origin("caesura bench calls"), [Path("latency.png")])
    for text in (shown, report):
        assert "2.00 (2.00 to 2.00)" in text
        assert "+20.0 (+15.0 to +25.0)" in text
        assert "no calls: 2" in text
    assert "![latency](latency.png)" in report


def test_arms_rotate_and_every_case_has_all_of_them() -> None:
    settings = SETTINGS.model_copy(
        update={"repetitions": 2, "order": (IssueOrder.LONGEST_FIRST, IssueOrder.RANDOM)}
    )
    cases = [Case(f"c{i}", "?", (), (KnownCall("f", {}), KnownCall("g", {}))) for i in range(3)]
    planned = list(planned_cases(settings, cases))
    assert len(planned) == 2 * 3 * 4
    first_of_rounds = [(one.style, one.order) for one in planned[::4]]
    assert first_of_rounds[:4] == [
        (Style.SYNC, IssueOrder.LONGEST_FIRST),
        (Style.SYNC_PARALLEL, IssueOrder.LONGEST_FIRST),
        (Style.ASYNC, IssueOrder.LONGEST_FIRST),
        (Style.ASYNC, IssueOrder.RANDOM),
    ]
    assert {(t.case.id, t.repetition, t.style, t.order) for t in planned} == {
        (case.id, repetition, style, order)
        for case in cases
        for repetition in range(2)
        for style, order in [(m, IssueOrder.LONGEST_FIRST) for m in USUAL_STYLES]
        + [(Style.ASYNC, IssueOrder.RANDOM)]
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"suite": "bfcl"},
        {"modes": ("fast",)},
        {"modes": ("async", "async")},
        {"modes": ("async", "requests")},  # which the demo's model cannot write
        {"latency": "slow"},
        {"order": ("best",)},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValidationError, CaesuraError)):
        FunctionCallingSettings.model_validate({"suite": "demo", **wrong})


def test_the_command_asks_for_the_data() -> None:
    with pytest.raises(CaesuraError, match="--data"):
        cli.run(["bench", "calls", "--suite", "bfcl-parallel"])
