import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from caesura.errors import ConfigurationError
from caesura.tools import Answer, CallEnding
from support.tools import samples as tool_samples
from support.tools.workbench import Workbench, call, workbench
from support.waiting import pass_time


def table(name: str, settings: str = "") -> str:
    return (
        f'[tools.{name}]\ntype = "python"\ncallable = "support.tools.samples:{name}"\n{settings}\n'
    )


def error(content: str) -> dict[str, str]:
    message: dict[str, str] = json.loads(content)["error"]
    return message


async def test_schema_and_description_come_from_signature_and_docstring(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("weather")) as bench:
        (definition,) = bench.executor.definitions()
    function: Any = definition["function"]
    assert function["name"] == "weather"
    assert function["description"] == "The weather at a place.\n\nLonger explanation."
    parameters = function["parameters"]
    assert parameters["required"] == ["place"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["days"] == {
        "default": 1,
        "description": "from now.",
        "type": "integer",
    }
    assert parameters["properties"]["place"]["description"] == "where."
    assert parameters["$defs"]["Unit"]["enum"] == ["celsius", "kelvin"]


@pytest.mark.parametrize(
    ("name", "arguments", "content"),
    [
        ("add", '{"a": 1, "b": "2"}', "3"),
        ("decorated", '{"a": 1, "b": 2}', "3"),
        ("decorated_in_thread", '{"a": 1, "b": 2}', "3"),
        ("partial_add", '{"a": 1}', "3"),
        ("adder", '{"a": 1, "b": 2}', "3"),
        ("words", '{"count": 3}', "w0 w1 w2 "),
        ("later_words", '{"count": 3}', "w0 w1 w2 "),
        ("words", '{"count": 0}', "[]"),
        ("numbers", '{"count": 3}', "[0,1,2]"),
        ("weather", '{"place": {"city": "Utrecht"}}', '{"degrees":21.0,"unit":"celsius"}'),
        ("bounded", '{"share": 0.5, "copy": "y", "schema": 3}', "0.5 y 3"),
        ("on_day", '{"day": "2026-11-22"}', "Sunday"),
        ("text", '{"kind": "bytes"}', "a\ufffdb"),
        ("text", '{"kind": "surrogate"}', "a\ufffdb"),
        ("text", '{"kind": "nul"}', "ab"),
        ("text", '{"kind": "none"}', "null"),
        ("text", '{"kind": "infinite"}', "null"),
        ("text", '{"kind": "json"}', '{"a":[1,"2026-01-02"]}'),
    ],
)
async def test_arguments_are_converted_and_results_become_text(
    tmp_path: Path, name: str, arguments: str, content: str
) -> None:
    async with workbench(tmp_path, table(name)) as bench:
        result = await bench.run(name, arguments)
    assert (result.ending, result.content) == (CallEnding.SUCCEEDED, content)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("add", '{"a": 1}', "b: Field required"),
        ("add", '{"a": 1, "b": 2, "c": 3}', "c: Extra inputs are not permitted"),
        ("weather", '{"place": {"city": 3}}', "place.city: Input should be a valid string"),
        ("bounded", '{"share": 2}', "share: Input should be less than or equal to 1"),
    ],
)
async def test_arguments_that_do_not_fit_are_named(
    tmp_path: Path, name: str, arguments: str, message: str
) -> None:
    async with workbench(tmp_path, table(name)) as bench:
        result = await bench.run(name, arguments)
        assert not bench.journal.dispatched
    assert result.ending is CallEnding.INVALID
    assert error(result.content) == {"type": "invalid", "message": message}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "raises failed with KeyError"),
        ("tells", "no such city; try another one"),
        ("exits", "exits failed with SystemExit"),
        ("exits_in_thread", "exits_in_thread failed with RuntimeError"),
        ("stops", "stops failed with RuntimeError"),
    ],
)
async def test_of_an_exception_the_model_reads_only_what_was_meant_for_it(
    tmp_path: Path, name: str, message: str
) -> None:
    async with workbench(tmp_path, table(name)) as bench:
        result = await bench.run(name)
    assert result.ending is CallEnding.FAILED
    assert error(result.content) == {"type": "failed", "message": message}


async def test_a_result_that_is_no_text_fails(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("text")) as bench:
        result = await bench.run("text", '{"kind": "object"}')
    assert "neither text nor JSON" in error(result.content)["message"]


async def test_a_long_result_is_cut_with_a_note(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("text", "max_result_bytes = 300")) as bench:
        result = await bench.run("text", '{"kind": "long"}')
    assert result.cut
    assert len(result.content.encode()) <= 300
    assert result.content.startswith("éé")
    assert result.content.endswith("[The result was cut: it has 2000 bytes, and the limit is 300.]")


@pytest.mark.parametrize("name", ["hangs", "hangs_in_thread"])
async def test_a_tool_that_hangs_is_given_up(tmp_path: Path, name: str) -> None:
    tool_samples.release.clear()
    async with workbench(tmp_path, table(name, "timeout_seconds = 0.05")) as bench:
        result = await bench.run(name)
        tool_samples.release.set()
    assert result.ending is CallEnding.TIMED_OUT
    assert error(result.content)["message"].startswith("no result within 0.05 seconds;")


async def asked(bench: Workbench, name: str) -> str:
    """Run a tool that asks; it waits for the answers longer than its time limit."""
    task = asyncio.create_task(bench.executor.execute(call(name, call_id="c"), bench.journal))
    await bench.journal.asked.wait()
    assert bench.metric("caesura_tool_waiting_for_human") == 1
    await pass_time(100)  # longer than the limit, which stands still
    bench.journal.answer("c:ask:0", Answer(True, text="red"))
    bench.journal.answer("c:ask:1", Answer(True, text="yes"))
    return (await task).content


async def test_a_tool_asks_the_human_and_its_time_stands_still(tmp_path: Path) -> None:
    settings = "timeout_seconds = 60"
    async with workbench(tmp_path, table("asks", settings)) as bench:
        assert await asked(bench, "asks") == "red, yes"
        assert bench.metric("caesura_tool_waiting_for_human") == 0
        questions = bench.journal.questions
        assert [question.key for question in questions] == ["c:ask:0", "c:ask:1"]
        assert questions[0].choices == ("red", "blue")
        assert questions[0].session_id == "session-1"


async def test_a_tool_in_a_thread_asks_too(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("asks_in_thread", "timeout_seconds = 60")) as bench:
        assert await asked(bench, "asks_in_thread") == "red"


async def test_a_refused_question_refuses_the_call(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("asks")) as bench:
        bench.journal.reply = Answer(False, reason="not now")
        result = await bench.run("asks")
    assert result.ending is CallEnding.REFUSED
    assert error(result.content)["message"] == "The human did not answer: not now"


async def test_progress_reaches_the_journal_from_any_thread(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("reports")) as bench:
        await bench.run("reports")
        reports = [report[1:] for report in bench.journal.reports]
    assert reports == [(0.5, 7, "half"), (1.0, None, None)]


async def test_progress_that_is_no_number_of_json_does_not_reach_the_journal(
    tmp_path: Path,
) -> None:
    async with workbench(tmp_path, table("reports_nonsense")) as bench:
        result = await bench.run("reports_nonsense")
        reports = [report[1:] for report in bench.journal.reports]
    assert result.content == "done"
    nothing = (None, None, None)
    assert reports == [nothing] * 4 + [(0.5, None, "half \ufffd"), (None, 0.5, None)]
    assert json.dumps(reports, allow_nan=False)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "support.tools.samples:nothing",
            "'support.tools.samples' has no function 'nothing'; check its spelling",
        ),
        ("support.tools.samples:untyped", "its parameter 'a' has no type; annotate it"),
        (
            "support.tools.samples:variadic",
            "its parameter 'values' takes any number of values; name each",
        ),
        ("no_such_module:f", "cannot import 'no_such_module': ModuleNotFoundError"),
    ],
)
async def test_a_function_that_cannot_be_offered_is_an_error_with_its_line(
    tmp_path: Path, reference: str, message: str
) -> None:
    text = f'[tools.a]\ntype = "python"\ncallable = "{reference}"\n'
    with pytest.raises(ConfigurationError) as caught:
        async with workbench(tmp_path, text):
            pass
    assert f"caesura.toml:3: tools.a.callable: {message}" in str(caught.value)


async def test_modules_beside_the_configuration_are_found(tmp_path: Path) -> None:
    (tmp_path / "module_beside_it.py").write_text("def f() -> str:\n    return 'found'\n")
    text = '[tools.a]\ntype = "python"\ncallable = "module_beside_it:f"\n'
    async with workbench(tmp_path, text) as bench:
        assert (await bench.run("a")).content == "found"


@pytest.mark.parametrize("name", ["words", "later_words"])
async def test_no_more_pieces_are_taken_than_a_result_may_have(tmp_path: Path, name: str) -> None:
    tool_samples.runs.clear()
    async with workbench(tmp_path, table(name, "max_result_bytes = 256")) as bench:
        result = await bench.run(name, '{"count": 1000000}')
    assert result.cut
    assert len(tool_samples.runs) < 100


async def test_a_generator_may_fail_behind_its_first_piece(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("fails_late")) as bench:
        result = await bench.run("fails_late")
    assert error(result.content)["message"] == "the second piece is missing"


async def test_a_default_that_looks_like_a_title_stays(tmp_path: Path) -> None:
    async with workbench(tmp_path, table("titled")) as bench:
        (definition,) = bench.executor.definitions()
    properties = definition["function"]["parameters"]["properties"]  # type: ignore[index,call-overload]
    assert properties == {
        "title": {
            "additionalProperties": {"type": "string"},
            "default": {"title": "x"},
            "type": "object",
        }
    }
