import asyncio
import json
from pathlib import Path

import pytest

from caesura.tools import Answer, CallEnding, QuestionKind, ToolCall
from support.tools import samples as tool_samples
from support.tools.workbench import Journal, call, workbench
from support.waiting import eventually


def table(name: str, settings: str = "") -> str:
    return (
        f'[tools.{name}]\ntype = "python"\ncallable = "support.tools.samples:{name}"\n{settings}\n'
    )


CACHED = "idempotent = true\ncache_seconds = 60"
HUMAN = '[tools.ask]\ntype = "human"\n'


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    tool_samples.runs.clear()


async def test_an_unknown_tool_is_told_which_there_are(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("add") + HUMAN) as bench:
        result = await bench.run("subtract", "{}")
        assert bench.metric("caesura_tool_calls_total", tool="(unknown)", ending="unknown_tool")
    assert result.ending is CallEnding.UNKNOWN_TOOL
    assert json.loads(result.content)["error"] == {
        "type": "unknown_tool",
        "message": "there is no tool 'subtract'; the tools are: add, ask",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1', "the arguments are not JSON: Expecting ',' delimiter at character 7"),
        ("[1]", "the arguments must be a JSON object"),
        ('{"a": NaN}', "the arguments are not JSON: NaN is not JSON"),
        ('{"a": ' + "[" * 100_000, "the arguments are not JSON: nested deeper than 64 levels"),
        ('{"a": ' + "1" * 5000 + "}", "the arguments are not JSON: a number is too large"),
        ('{"a": 1, "a": 2}', "the arguments are not JSON: a name is given twice"),
        (r'{"a": "\ud800"}', "the arguments are not JSON: a text has half of a surrogate pair"),
        (" " * 2**20 + "{}", "the arguments are longer than 1048576 characters"),
    ],
)
async def test_arguments_that_are_no_json_object_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    async with workbench(tmp_path, table("add")) as bench:
        result = await bench.run("add", text)
    assert result.ending is CallEnding.INVALID
    assert json.loads(result.content)["error"]["message"].startswith(message)


async def test_no_arguments_are_an_empty_object(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("raises")) as bench:
        assert (await bench.run("raises", "  ")).ending is CallEnding.FAILED


async def test_an_attempt_is_written_down_before_it_runs(tmp_path: Path) -> None:
    class Strict(Journal):
        async def dispatching(self, call: ToolCall, attempt: int) -> None:
            assert not tool_samples.runs
            await super().dispatching(call, attempt)

    async with workbench(tmp_path, table("count")) as bench:
        journal = Strict()
        result = await bench.executor.execute(call("count", '{"word": "x"}', "c"), journal)
    assert journal.dispatched == [("c", 1)]
    assert (result.ending, result.attempts) == (CallEnding.SUCCEEDED, 1)


async def test_a_journal_that_fails_stops_the_call_before_it_has_effects(tmp_path: Path) -> None:
    class Broken(Journal):
        async def dispatching(self, call: ToolCall, attempt: int) -> None:
            raise OSError("disk full")

    async with workbench(tmp_path, table("count")) as bench:
        result = await bench.executor.execute(call("count", '{"word": "x"}'), Broken())
    assert result.ending is CallEnding.FAILED
    assert "internal error (OSError)" in result.content
    assert not tool_samples.runs


@pytest.mark.parametrize(("settings", "is_shared"), [("", False), ("cache_shared = true", True)])
async def test_a_cached_result_serves_its_owner_unless_it_is_shared(
    tmp_path: Path, settings: str, is_shared: bool
) -> None:
    async with workbench(tmp_path, table("count", f"{CACHED}\n{settings}")) as bench:
        ended = {}
        for owner in ("alpha", "beta", "alpha"):
            made = call("count", '{"word": "x"}')
            ended[owner] = await bench.executor.execute(made, Journal(owner=owner))
    assert ended["alpha"].cached
    assert ended["beta"].cached is is_shared


async def test_progress_extends_the_time_limit(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("works")) as bench:
        assert (await bench.run("works", '{"reports": 10}')).content == "done"
    async with workbench(tmp_path, table("works", "longest_seconds = 100")) as bench:
        assert (await bench.run("works", '{"reports": 10}')).ending is CallEnding.TIMED_OUT
    sequence = '[tools.all]\ntype = "sequence"\ntimeout_seconds = 60\n'
    steps = '[[tools.all.steps]]\ntool = "works"\narguments = { reports = 10 }\n'
    async with workbench(tmp_path, table("works") + sequence + steps) as bench:
        assert (await bench.run("all")).ending is CallEnding.TIMED_OUT


@pytest.mark.parametrize(("settings", "is_told"), [("", True), ("idempotent = true", False)])
async def test_a_call_that_timed_out_says_that_it_may_have_had_its_effects(
    tmp_path: Path, settings: str, is_told: bool
) -> None:
    async with workbench(tmp_path, table("hangs", f"timeout_seconds = 0.01\n{settings}")) as bench:
        result = await bench.run("hangs")
    assert result.ending is CallEnding.TIMED_OUT
    assert ("may or may not have had its effects" in result.content) is is_told


async def test_a_tool_that_swallows_its_cancelling_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caesura.tools.executor._GRACE_SECONDS", 0.05)
    settings = "timeout_seconds = 0.01\nmax_concurrency = 1"
    async with workbench(tmp_path, table("swallows", settings)) as bench:
        first = await bench.run("swallows")
        second = await bench.run("swallows")
        cancelled = asyncio.create_task(bench.run("swallows"))
        await eventually(lambda: len(tool_samples.runs) > 4)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert bench.metric("caesura_tool_abandoned_total", tool="swallows") >= 2
        tool_samples.swallowing_ends.set()
    assert {first.ending, second.ending} == {CallEnding.TIMED_OUT}


async def test_a_tool_that_cancels_itself_fails(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("cancels_itself")) as bench:
        assert (await bench.run("cancels_itself")).ending is CallEnding.FAILED


async def test_a_cached_result_serves_calls_that_mean_the_same(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("search", CACHED)) as bench:
        first = await bench.run("search", '{"query": "a", "limit": 3}')
        second = await bench.run("search", '{"limit": 3.0, "query": "a"}')
        other = await bench.run("search", '{"query": "b"}')
        assert len(bench.journal.dispatched) == 2
        assert bench.metric("caesura_tool_cache_hits_total", tool="search") == 1
    assert (second.content, second.cached, second.attempts) == (first.content, True, 0)
    assert not other.cached


async def test_a_cached_result_expires(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("count", CACHED)) as bench:
        await bench.run("count", '{"word": "x"}')
        bench.clock.seconds += 59
        assert (await bench.run("count", '{"word": "x"}')).cached
        bench.clock.seconds += 1
        assert not (await bench.run("count", '{"word": "x"}')).cached


async def test_identical_calls_at_the_same_time_run_once(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("count", CACHED)) as bench:
        calls = [call("count", '{"word": "x"}') for _ in range(5)]
        results = [result async for result in bench.executor.execute_all(calls, bench.journal)]
        assert bench.metric("caesura_tool_bundled_calls_total", tool="count") == 5
    assert tool_samples.runs == ["x"]
    assert sorted(result.cached for result in results) == [False, True, True, True, True]


async def test_when_the_caller_that_runs_is_cancelled_another_one_runs(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("asks", CACHED)) as bench:
        first = asyncio.create_task(bench.run("asks"))
        await bench.journal.asked.wait()
        second = asyncio.create_task(bench.run("asks"))
        await asyncio.sleep(0)
        bench.journal.reply = Answer(True, text="ok")
        first.cancel()
        assert (await second).content == "ok, ok"
        assert first.cancelled()
        assert bench.metric("caesura_tool_calls_total", tool="asks", ending="cancelled") == 1


async def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("raises", CACHED)) as bench:
        await bench.run("raises")
        assert (await bench.run("raises")).attempts == 1


async def test_a_call_that_needs_approval_waits_for_it(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("count", "approve = true")) as bench:
        waiting = asyncio.create_task(
            bench.executor.execute(call("count", '{"word": "x"}', "c"), bench.journal)
        )
        await bench.journal.asked.wait()
        (question,) = bench.journal.questions
        assert (question.key, question.kind) == ("c:approval", QuestionKind.APPROVAL)
        assert (question.tool, question.arguments) == ("count", {"word": "x"})
        assert not bench.journal.dispatched
        bench.journal.answer("c:approval", Answer(True))
        assert (await waiting).content == "x 1"


async def test_a_refused_call_does_not_run(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("count", "approve = true")) as bench:
        bench.journal.reply = Answer(False, reason="too dear")
        result = await bench.run("count", '{"word": "x"}')
        assert not bench.journal.dispatched
    assert (result.ending, result.attempts) == (CallEnding.REFUSED, 0)
    assert json.loads(result.content)["error"] == {
        "type": "refused",
        "message": "A human refused this call: too dear",
    }
    assert not tool_samples.runs


async def test_waiting_for_a_slot_does_not_count_against_the_time_limit(tmp_path: Path) -> None:
    settings = "max_concurrency = 1\ntimeout_seconds = 0.05"
    async with workbench(tmp_path, table("hangs", settings)) as bench:
        calls = [call("hangs") for _ in range(3)]
        results = [result async for result in bench.executor.execute_all(calls, bench.journal)]
    assert {result.ending for result in results} == {CallEnding.TIMED_OUT}
    assert len(tool_samples.runs) == 3


async def test_a_timeout_is_retried_only_where_that_does_no_harm(tmp_path: Path) -> None:
    settings = "timeout_seconds = 0.01\nidempotent = true\nretries = 2"
    async with workbench(tmp_path, table("hangs", settings)) as bench:
        result = await bench.executor.execute(call("hangs", "", "c"), bench.journal)
        assert bench.clock.slept == [0.5, 1.0]
        assert bench.journal.dispatched == [("c", 1), ("c", 2), ("c", 3)]
        assert bench.metric("caesura_tool_retries_total", tool="hangs") == 2
    assert (result.ending, result.attempts, result.seconds) == (CallEnding.TIMED_OUT, 3, 1.5)
    async with workbench(tmp_path, table("hangs", "timeout_seconds = 0.01")) as bench:
        assert (await bench.run("hangs")).attempts == 1


async def test_results_come_in_the_order_in_which_they_are_ready(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("add") + HUMAN) as bench:
        calls = [call("ask", '{"question": "?"}', "slow"), call("add", '{"a": 1, "b": 2}', "fast")]
        order = []
        async for result in bench.executor.execute_all(calls, bench.journal):
            order.append(result.call_id)
            bench.journal.answer("slow:ask:0", Answer(True, text="!"))
    assert order == ["fast", "slow"]


async def test_what_still_runs_is_cancelled_when_nobody_waits_any_more(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("add") + table("hangs")) as bench:
        results = bench.executor.execute_all(
            [call("hangs"), call("add", '{"a": 1, "b": 2}')], bench.journal
        )
        assert (await anext(results)).content == "3"
        await results.aclose()
        assert bench.metric("caesura_tool_calls_total", tool="hangs", ending="cancelled") == 1


async def test_what_is_known_of_a_tool(tmp_path: Path) -> None:
    text = table("add", "idempotent = true\nexpected_seconds = 2.5") + table("count") + HUMAN
    async with workbench(tmp_path, text) as bench:
        executor = bench.executor
        idempotent = [executor.is_idempotent(name) for name in ("add", "count", "ask", "nothing")]
        assert idempotent == [True, False, True, False]
        assert [executor.expected_seconds(name) for name in ("add", "count")] == [2.5, None]
        assert len(executor.definitions()) == 3
        assert len(executor.definitions(["ask"])) == 1
        with pytest.raises(KeyError):
            executor.definitions(["nothing"])


async def test_calls_that_did_not_finish_have_results_too(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("add")) as bench:
        interrupted = bench.executor.interrupted(call("add"))
        cancelled = bench.executor.cancelled(call("add"))
    assert interrupted.ending is CallEnding.INTERRUPTED
    assert json.loads(interrupted.content)["error"]["type"] == "interrupted"
    assert cancelled.ending is CallEnding.CANCELLED
