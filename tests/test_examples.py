"""The examples run as a reader would run them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from caesura.bundled import CML_MODEL
from servers import Server, free_port, serving
from small_model import kv_bytes
from support.waiting import HANG_SECONDS

pytestmark = pytest.mark.engine

EXAMPLES = Path(__file__).parents[1] / "examples"
ASKED = {"owner": "K4821", "status": "773412", "stock": "B1203"}  # by async_agent/run.py


def run(script: Path, *arguments: str) -> str:
    """What an example prints, once it has ended well."""
    result = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_pause_and_interrupt() -> None:
    printed = run(EXAMPLES / "pause_and_interrupt.py")
    assert "-- paused (length)" in printed
    assert "-- interrupted" in printed


class ExampleServer:
    """The server that the examples ask for, in a copy of their directory."""

    def __init__(self, model_path: str, directory: Path) -> None:
        self.examples = directory / "examples"
        shutil.copytree(EXAMPLES, self.examples)
        self._port = free_port()
        configuration = self.examples / "caesura.toml"
        text = configuration.read_text()
        configuration.write_text(text.replace("localhost:8000", f"127.0.0.1:{self._port}"))
        self._model_path = model_path
        self._arguments = [
            *("--config", "examples/caesura.toml", "--served-model-name", "agent"),
            *("--policy", "swap", "--host-memory", str(kv_bytes(1024))),
            *("--kv-cache-memory-bytes", str(kv_bytes(128)), "--max-model-len", "2048"),
            *("--dtype", "float32", "--enforce-eager"),
            *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
            *("--logits-processors", "scripted_model:ScriptedToolCalls"),
        ]
        self._running = ExitStack()
        self._starts = 0

    def start(self) -> Server:
        self._starts += 1
        log = self.examples.parent / f"{self._starts}.log"
        # The one Python that has everything is found as in an activated environment.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        server = serving(self._model_path, self._arguments, log, port=self._port, PATH=path)
        return self._running.enter_context(server)

    def stop(self) -> None:
        self._running.close()


@pytest.fixture(scope="module")
def example_server(
    model_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExampleServer]:
    server = ExampleServer(model_path, tmp_path_factory.mktemp("examples"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(example_server: ExampleServer) -> Server:
    return example_server.start()


def test_an_unmodified_agent_runs_its_own_tools(
    server: Server, example_server: ExampleServer
) -> None:
    printed = run(example_server.examples / "openai_agent.py", "--url", server.url)
    weather, time, *answer = printed.splitlines()
    assert weather == 'get_weather({"city": "Berlin"}) -> In Berlin it rains, at 12 degrees.'
    assert time == 'get_time({"city": "Berlin"}) -> In Berlin it is 14:30.'
    assert any(answer)
    assert server.wait_for("pause_endings", 2, ending="resumed") == 2


def test_a_session_calls_the_tools_of_an_mcp_server(
    server: Server, example_server: ExampleServer
) -> None:
    printed = run(example_server.examples / "mcp_agent" / "run.py", "--url", server.url)
    assert '-> notes_add {"text": "The kettle is on."}' in printed
    assert "<- succeeded: written; there are 1 notes" in printed
    assert "-> notes_read {}" in printed
    assert "<- succeeded: The kettle is on." in printed
    assert "-- completed" in printed


def test_a_model_asks_another_model(server: Server, example_server: ExampleServer) -> None:
    printed = run(example_server.examples / "two_models" / "run.py", "--url", server.url)
    assert '-> ask_expert {"prompt": "Why is the sky blue?"}' in printed
    _, _, result = printed.partition("<- succeeded: ")
    assert len(result.split()) > 10, "the expert's answer, and then the model's own"


def test_the_chat_answers_what_a_session_on_the_engine_asks(server: Server) -> None:
    command = [sys.executable, "-m", "caesura.cli", "chat", "--url", server.url]
    made = subprocess.run(
        [*command, "--tools", "release", "--message", "Release it."],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert made.returncode == 3, made.stderr
    assert "May release(version='1.2') run?" in made.stderr
    (session_id,) = re.findall(r"^session (\S+)$", made.stderr, re.MULTILINE)
    answered = subprocess.run(
        [*command, "--session", session_id, "--message", "y"],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert answered.returncode == 0, answered.stderr
    assert "version 1.2 is released" in answered.stderr
    assert answered.stdout.strip(), "the model's own words"


def test_an_approval_survives_a_restart_of_the_server(
    server: Server, example_server: ExampleServer
) -> None:
    script = example_server.examples / "approval" / "run.py"
    example = subprocess.Popen(
        [sys.executable, "-u", str(script), "--url", server.url, "--yes"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert example.stdout is not None
        asked, restart = example.stdout.readline(), example.stdout.readline()
        assert asked == "release wants to run, with {'version': '1.2'}.\n"
        assert restart == "Now stop the server, and start it again.\n"
        example_server.stop()
        assert server.process.returncode == 0, (
            "a client that comes back at once kept it from ending"
        )
        example_server.start()
        printed, _ = example.communicate(timeout=HANG_SECONDS)
    finally:
        example.kill()
        example.wait()
    assert example.returncode == 0
    assert printed.splitlines() == [
        "The server is back, and the question is waiting.",
        "release succeeded: version 1.2 is released",
        "The session is over: completed.",
    ]
    (session, *_) = httpx.get(f"{server.url}/v1/sessions").json()["data"]
    assert session["ending"] == "completed"


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """Where the shop of `async_agent` is."""
    port = free_port()
    script = EXAMPLES / "async_agent" / "shop.py"
    process = subprocess.Popen([sys.executable, str(script), "--port", str(port)])
    try:
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def async_server(shop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("async_agent")
    text = (EXAMPLES / "async_agent" / "caesura.toml").read_text()
    configuration = directory / "caesura.toml"
    configuration.write_text(text.replace("http://localhost:8100", shop))
    arguments = [
        *("--config", str(configuration), "--served-model-name", "agent"),
        *("--kv-cache-memory-bytes", str(2**24), "--max-model-len", "1024"),
        *("--dtype", "float32", "--enforce-eager"),
    ]
    with serving(str(CML_MODEL), arguments, directory / "server.log") as server:
        yield server


def test_a_model_calls_while_it_writes(async_server: Server, shop: str) -> None:
    printed = run(EXAMPLES / "async_agent" / "run.py", "--url", async_server.url)
    known = {tool: httpx.get(f"{shop}/{tool}/{code}").text for tool, code in ASKED.items()}
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
