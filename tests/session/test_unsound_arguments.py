"""Arguments that no two readers would read alike: the model is told, and nothing else happens."""

import json
from pathlib import Path

import pytest

from caesura.session.records import EventType, SessionEnding
from caesura.session.store import Store
from session import planned, scripted
from session.workplace import OWNER, agents, events, spec, store_of, texts, tool

UNSOUND = {
    "too_deep": "[" * 300 + "]" * 300,
    "surrogate": r'"\ud800"',
    "name_twice": '{"a": 1, "a": 2}',
    "infinite": "1e999",
    "beyond_pythons_digits": "9" * 5000,
}


def look(x: object) -> str:
    """Look."""
    raise AssertionError("it must not be called")


async def unheard(store: Store) -> bool:
    return not await store.waiting_questions()


@pytest.mark.parametrize("x", UNSOUND.values(), ids=UNSOUND)
async def test_the_model_is_told_in_its_own_format(tmp_path: Path, x: str) -> None:
    plan = f'<<look {{"x": {x}}}>>\nend'
    async with agents(tmp_path / "db", tool(look, approve=True)) as all_agents:
        told = await events(await all_agents.create(OWNER, spec(plan, keep_open=False)))
        assert await unheard(store_of(all_agents))
    (result,) = [event for event in told if event.type is EventType.RESULT]
    assert json.loads(str(result.data["content"]))["error"]["type"] == "invalid"
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


@pytest.mark.parametrize("x", UNSOUND.values(), ids=UNSOUND)
async def test_the_model_is_told_by_a_future(tmp_path: Path, x: str) -> None:
    plan = f'<<look {{"x": {x}}}>>\n<<await_future {{"future": {x}}}>>\nend'
    asked = spec(plan, function_calling="async", keep_open=False)
    async with agents(tmp_path / "db", tool(look, approve=True)) as all_agents:
        told = await events(await all_agents.create(OWNER, asked))
        assert await unheard(store_of(all_agents))
    results = [str(event.data["content"]) for event in told if event.type is EventType.RESULT]
    kinds = {json.loads(content)["error"]["type"] for content in results}
    assert kinds == {"invalid", "unknown_future"}
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


@pytest.mark.parametrize("x", UNSOUND.values(), ids=UNSOUND)
async def test_the_model_is_told_in_cml(tmp_path: Path, x: str) -> None:
    call = f'[CALL]a[HEAD]{{"name": "look", "arguments": {{"x": {x}}}}}[END]'
    asked = spec(f"{call}|?a|=a", function_calling="async", keep_open=False)
    options = {"engine": planned.engine(), "formats": planned.FORMATS}
    async with agents(tmp_path / "db", tool(look, approve=True), **options) as all_agents:
        told = await events(await all_agents.create(OWNER, asked))
        assert await unheard(store_of(all_agents))
    assert json.loads(texts(told))["error"]["type"] == "malformed_json"
    assert not [event for event in told if event.type is EventType.CALL]
    assert told[-1].data["ending"] == SessionEnding.COMPLETED


@pytest.mark.parametrize("protocol", ["native", "futures"])
async def test_what_a_parser_makes_of_half_a_surrogate_pair_can_be_written_down(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = scripted.ByteReader.finish

    def reading(reader: scripted.ByteReader) -> scripted.Output:
        """As parsers do that read the JSON and write it again."""
        output = finish(reader)
        calls = [
            scripted.WrittenCall(
                call.name + "\ud800" * (call.name == "other"),
                json.dumps(json.loads(call.arguments_text), ensure_ascii=False),
            )
            for call in output.calls
        ]
        return scripted.Output(output.text, output.reasoning, tuple(calls))

    monkeypatch.setattr(scripted.ByteReader, "finish", reading)
    plan = r'<<look {"x": "\ud800"}>> <<other {}>>' + "\nend"
    mode = "async" if protocol == "futures" else None
    asked = spec(plan, function_calling=mode, keep_open=False)
    async with agents(tmp_path / "db", tool(look)) as all_agents:
        told = await events(await all_agents.create(OWNER, asked))
    results = [str(event.data["content"]) for event in told if event.type is EventType.RESULT]
    kinds = {json.loads(content)["error"]["type"] for content in results}
    assert kinds == {"invalid", "unknown_tool"}
    assert told[-1].data["ending"] == SessionEnding.COMPLETED
