"""`caesura serve demo` on the real engine: the first hour of somebody with no model."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from caesura.bundled.world import World
from caesura.cli.demo_server import SEED
from support.servers.process import Server, plain_program, serving

pytestmark = pytest.mark.engine

EXAMPLE = Path(__file__).parents[2] / "examples" / "async_agent" / "run.py"
ASKED = {"owner": "K4821", "status": "773412", "stock": "B1203"}  # by the example
SECONDS = 180


@dataclass(frozen=True)
class Demo:
    """The demo's server.

    Attributes:
        server: runs.
        directory: where it was started.
        state: where state is kept on this machine.
        log: its output.
    """

    server: Server
    directory: Path
    state: Path
    log: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory, state = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("state")
    log = directory / "server.log"
    with serving("demo", [], log, start=plain_program, XDG_STATE_HOME=str(state)) as server:
        yield Demo(server, directory, state, log)


def printed_by(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_question_over_http_is_answered_with_tools(demo: Demo) -> None:
    text = "I need the phone number of the owner of K4821, and the price of B1203."
    question = {"role": "user", "content": text}
    request = {"model": "demo", "messages": [question], "caesura": {"tools": "all"}}
    answer = httpx.post(
        f"{demo.server.url}/v1/chat/completions", json=request, timeout=SECONDS
    ).json()
    world = World(SEED)
    phone = world.value("phone", world.value("owner", "K4821"))
    text = answer["choices"][0]["message"]["content"]
    assert f"phone1: {phone}." in text
    assert f"price1: {world.value('price', 'B1203')}." in text
    session = httpx.get(f"{demo.server.url}/v1/sessions/{answer['caesura']['session_id']}").json()
    assert session["ending"] == "completed"


def test_the_chat_and_the_dashboard_just_work(demo: Demo) -> None:
    words = ["-m", "caesura.cli", "chat", "--url", demo.server.url]
    answer = printed_by(*words, "--message", "What is the stock of K4821?")
    assert f"stock1: {World(SEED).value('stock', 'K4821')}." in answer
    assert "<html" in httpx.get(f"{demo.server.url}/dashboard/").text


def test_the_example_calls_while_it_writes(demo: Demo) -> None:
    printed = printed_by(str(EXAMPLE), "--url", demo.server.url)
    known = {tool: World(SEED).value(tool, code) for tool, code in ASKED.items()}
    modes: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in printed.splitlines():
        _, _, happened = line.partition(" s  ")
        lines.append(happened)
        mode, separator, answer = happened.partition(": ")
        if separator and mode in ("sync", "sync_parallel", "async"):
            modes[mode], lines = lines[:-1], []
            for tool, value in known.items():
                assert f"{tool}1: {value}." in answer
    arrows = {mode: "".join(line[:2] for line in happened) for mode, happened in modes.items()}
    assert arrows["sync"] == "-><-" * 3
    assert arrows["sync_parallel"] == "->" * 3 + "<-" * 3
    assert arrows["async"].startswith("->->"), "a call does not wait for the one before it"
    for happened in modes.values():
        assert {line for line in happened if line.startswith("<-")} == {
            f"<- {tool} succeeded: {value}" for tool, value in known.items()
        }


def test_the_log_begins_with_what_to_ask_and_nothing_is_left_where_it_was_started(
    demo: Demo,
) -> None:
    log = demo.log.read_text()
    first, second, *_ = log.splitlines()
    assert "calls tools in CML: --tool-call-parser caesura_cml" in log
    assert "type the `caesura chat`" in first
    assert "What is the stock of K4821?" in second
    assert [file.name for file in demo.directory.iterdir()] == ["server.log"]
    (folder,) = (demo.state / "caesura").iterdir()
    assert (folder / "caesura.db").is_file()
