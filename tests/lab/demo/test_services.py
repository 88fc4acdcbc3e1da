"""The demo's tools, running: three kinds of endpoints, one world."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest

from caesura.bundled.demo_tools import TOOLS
from caesura.bundled.services import configuration_text, running_tools
from caesura.bundled.world import World
from caesura.lab.demo.agent.execution import Unattended
from caesura.tools import CallEnding, CallResult, Executor, ToolCall, load_configuration

SEED = 11
CODES = {"item": "K4821", "order": "773412", "contact": "PQ27"}


async def called(executor: Executor, name: str, arguments: dict[str, str]) -> CallResult:
    made = ToolCall(f"s-{name}", name, json.dumps(arguments), "s")
    return await executor.execute(made, Unattended())


def test_every_tool_answers_from_the_world_of_the_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(SEED)
        async with running_tools(SEED, tmp_path / "out" / "tools.toml") as executor:
            assert sorted(executor.names()) == sorted(tool.name for tool in TOOLS)
            for tool in TOOLS:
                assert executor.expected_seconds(tool.name) == tool.expected_seconds
            results = await asyncio.gather(
                *(called(executor, t.name, {t.parameter: CODES[t.parameter]}) for t in TOOLS)
            )
            for tool, result in zip(TOOLS, results, strict=True):
                code = CODES[tool.parameter]
                assert result.ending is CallEnding.SUCCEEDED, result.content
                assert result.content == world.value(tool.name, code)
                assert result.seconds >= world.seconds(tool.name, code) * 0.99
            for tool in TOOLS:
                result = await called(executor, tool.name, {tool.parameter: "nothing"})
                assert result.ending is CallEnding.FAILED
                assert "there is no" in result.content

    asyncio.run(scenario())


def test_services_end_with_the_tools(tmp_path: Path) -> None:
    async def scenario() -> tuple[str, CallResult]:
        file = tmp_path / "tools.toml"
        async with running_tools(SEED, file) as executor:
            pass
        (address,) = {*re.findall(r"http://[\d.:]+", file.read_text())}
        return address, await called(executor, "owner", {"item": "K4821"})

    address, result = asyncio.run(scenario())
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/owners/K4821")
    assert result.ending is CallEnding.FAILED


@pytest.mark.parametrize("seed", [0, 2**31])
def test_the_configuration_is_one(seed: int, tmp_path: Path) -> None:
    file = tmp_path / "tools.toml"
    file.write_text(configuration_text("http://127.0.0.1:1", seed))
    settings = load_configuration(file, {}).settings
    assert sorted(settings.tools) == ["owner", "phone", "price", "stock"]
    assert settings.mcp["orders"].env["CAESURA_DEMO_SEED"].get_secret_value() == str(seed)
