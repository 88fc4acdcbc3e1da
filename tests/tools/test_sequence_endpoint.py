import json
from pathlib import Path

import pytest

from caesura.errors import ConfigurationError
from caesura.tools import Answer, CallEnding
from support.tools import samples as tool_samples
from support.tools.workbench import call, workbench


def python(name: str, settings: str = "") -> str:
    return (
        f'[tools.{name}]\ntype = "python"\ncallable = "support.tools.samples:{name}"\n{settings}\n'
    )


PARAMETERS = """\
[tools.look.parameters]
required = ["query"]
[tools.look.parameters.properties]
query = { type = "string" }
limit = { type = "integer" }
"""
LOOK = (
    """\
[tools.look]
type = "sequence"
description = "Search and fetch"
steps = [
  { tool = "search", arguments = { query = "{query}", limit = "{limit}" } },
  { tool = "fetch", arguments = { url = "{steps[0].results[0].url}" } },
]
"""
    + PARAMETERS
)


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    tool_samples.runs.clear()


async def test_one_call_runs_all_steps(tmp_path: Path) -> None:
    async with workbench(tmp_path, python("search") + python("fetch") + LOOK) as bench:
        result = await bench.executor.execute(
            call("look", '{"query": "a", "limit": 4}', "c"), bench.journal
        )
        assert bench.metric("caesura_tool_fused_steps_total", tool="look") == 2
        assert bench.journal.dispatched == [("c", 1)]
    assert result.content == "page of https://example.com/a"
    assert tool_samples.runs == ["search a 4", "fetch https://example.com/a"]


async def test_an_optional_argument_that_is_not_given_is_left_out(tmp_path: Path) -> None:
    async with workbench(tmp_path, python("search") + python("fetch") + LOOK) as bench:
        await bench.run("look", '{"query": "a"}')
    assert tool_samples.runs[0] == "search a 10"


async def test_all_results_can_be_wanted(tmp_path: Path) -> None:
    text = LOOK.replace("steps = [", 'result = "all"\nsteps = [', 1)
    async with workbench(tmp_path, python("search") + python("fetch") + text) as bench:
        result = await bench.run("look", '{"query": "a"}')
    search, page = json.loads(result.content)
    assert (search["limit"], page) == (10, "page of https://example.com/a")


async def test_a_step_that_fails_ends_the_sequence(tmp_path: Path) -> None:
    text = LOOK.replace("results[0].url", "results[7].url")
    async with workbench(tmp_path, python("search") + python("fetch") + text) as bench:
        result = await bench.run("look", '{"query": "a"}')
    assert result.ending is CallEnding.FAILED
    message = json.loads(result.content)["error"]["message"]
    assert message == "step 1 (fetch): there is no steps[0].results[7].url"


async def test_a_refused_step_refuses_the_whole(tmp_path: Path) -> None:
    tools = python("search") + python("fetch", "approve = true")
    async with workbench(tmp_path, tools + LOOK) as bench:
        bench.journal.reply = Answer(False, reason="private")
        result = await bench.executor.execute(call("look", '{"query": "a"}', "c"), bench.journal)
        (question,) = bench.journal.questions
    assert (question.call_id, question.key) == ("c", "c/1:approval")
    assert result.ending is CallEnding.REFUSED
    assert "step 1 (fetch): A human refused this call: private" in result.content


async def test_steps_that_are_served_from_the_cache_are_not_dispatched(tmp_path: Path) -> None:
    cached = "idempotent = true\ncache_seconds = 60"
    tools = python("search", cached) + python("fetch", cached)
    async with workbench(tmp_path, tools + LOOK) as bench:
        await bench.run("look", '{"query": "a"}')
        await bench.run("look", '{"query": "a"}')
        assert len(bench.journal.dispatched) == 1
        assert bench.executor.is_idempotent("look")


async def test_progress_of_a_step_is_progress_of_the_whole(tmp_path: Path) -> None:
    text = '[tools.two]\ntype = "sequence"\nsteps = [{ tool = "add", arguments = {a=1, b=2} }, '
    text += '{ tool = "reports" }]\n'
    async with workbench(tmp_path, python("add") + python("reports") + text) as bench:
        result = await bench.executor.execute(call("two", "", "c"), bench.journal)
        reports = [(report[0], report[1]) for report in bench.journal.reports]
    assert result.content == "done"
    assert reports == [("c", 0.75), ("c", 1.0)]


async def test_sequences_run_sequences(tmp_path: Path) -> None:
    step = '{ tool = "look", arguments = { query = "b" } }'
    outer = f'[tools.outer]\ntype = "sequence"\nsteps = [{step}]\n'
    async with workbench(tmp_path, python("search") + python("fetch") + outer + LOOK) as bench:
        result = await bench.executor.execute(call("outer", "", "c"), bench.journal)
        assert bench.journal.dispatched == [("c", 1)]
    assert result.content == "page of https://example.com/b"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ('{ tool = "nothing" }', "steps[0]: there is no tool 'nothing'; check its name"),
        ('{ tool = "fetch" }', "steps[0]: fetch needs url; add to arguments"),
        ('{ tool = "fetch", arguments = { url = "", x = 1 } }', "fetch does not take x; remove it"),
        ('{ tool = "fetch", arguments = { url = "{who}" } }', "{who} is no argument; add it to"),
        ('{ tool = "fetch", arguments = { url = "{steps[0]}" } }', "is not an earlier step"),
        ('{ tool = "fetch", arguments = { url = "{steps.a}" } }', "does not say which step"),
        ('{ tool = "fetch", arguments = { url = "{" } }', "a lone '{'; write '{{'"),
    ],
)
async def test_a_step_that_cannot_work_is_an_error_at_start(
    tmp_path: Path, steps: str, expected: str
) -> None:
    text = f'[tools.look]\ntype = "sequence"\nsteps = [\n{steps}]\n' + PARAMETERS
    with pytest.raises(ConfigurationError) as caught:
        async with workbench(tmp_path, text + python("fetch")):
            pass
    assert "caesura.toml:4: tools.look.steps[0]: " in str(caught.value)
    assert expected in str(caught.value)


async def test_a_sequence_that_runs_itself_is_an_error_at_start(tmp_path: Path) -> None:
    text = '[tools.a]\ntype = "sequence"\nsteps = [{ tool = "b" }]\n'
    text += '[tools.b]\ntype = "sequence"\nsteps = [{ tool = "a" }]\n'
    with pytest.raises(
        ConfigurationError, match=r"toml:3: tools.a.steps: runs itself: a -> b -> a"
    ):
        async with workbench(tmp_path, text):
            pass


async def test_a_sequence_is_idempotent_only_if_its_steps_are(tmp_path: Path) -> None:
    text = LOOK.replace("steps = [", "idempotent = true\nsteps = [", 1)
    with pytest.raises(ConfigurationError, match=r"tools.look: idempotent = true, but not every"):
        async with workbench(tmp_path, python("search") + python("fetch") + text):
            pass


@pytest.mark.parametrize(
    ("tools", "steps"),
    [
        (python("reports", "idempotent = true\napprove = true"), '{ tool = "reports" }'),
        ('[tools.ask]\ntype = "human"\n', '{ tool = "ask", arguments = { question = "?" } }'),
        (
            '[tools.ask]\ntype = "human"\n[tools.inner]\ntype = "sequence"\n'
            'steps = [{ tool = "ask", arguments = { question = "?" } }]\n',
            '{ tool = "inner" }',
        ),
    ],
    ids=["approved", "answered", "nested"],
)
async def test_a_sequence_with_a_human_in_it_is_not_cached(
    tmp_path: Path, tools: str, steps: str
) -> None:
    text = '[tools.look]\ntype = "sequence"\nidempotent = true\ncache_seconds = 60\n'
    text += f"steps = [\n{steps}]\n"
    with pytest.raises(
        ConfigurationError, match=r"toml:6: tools.look.steps\[0\]: \w+ is put before a human"
    ):
        async with workbench(tmp_path, text + tools):
            pass
