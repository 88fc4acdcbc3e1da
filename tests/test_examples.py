"""The examples run as a reader would run them."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.forks import run_forked
from support.servers.process import RestartableServer, Server
from support.waiting import HANG_SECONDS

pytestmark = pytest.mark.engine

EXAMPLES = Path(__file__).parents[1] / "examples"


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
    done = run_forked(str(EXAMPLES / "pause_and_interrupt.py"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "-- paused (length)" in done.stdout
    assert "-- interrupted" in done.stdout


@pytest.fixture
def server(example_server: RestartableServer) -> Server:
    return example_server.server


@pytest.fixture
def examples(example_server: RestartableServer) -> Path:
    return example_server.directory / "examples"


def test_an_unmodified_agent_runs_its_own_tools(server: Server, examples: Path) -> None:
    before = server.metric("pause_endings", ending="resumed")
    printed = run(examples / "openai_agent.py", "--url", server.url)
    weather, time, *answer = printed.splitlines()
    assert weather == 'get_weather({"city": "Berlin"}) -> In Berlin it rains, at 12 degrees.'
    assert time == 'get_time({"city": "Berlin"}) -> In Berlin it is 14:30.'
    assert any(answer)
    assert server.wait_for("pause_endings", before + 2, ending="resumed") == before + 2


def test_a_session_calls_the_tools_of_an_mcp_server(server: Server, examples: Path) -> None:
    printed = run(examples / "mcp_agent" / "run.py", "--url", server.url)
    assert '-> notes_add {"text": "The kettle is on."}' in printed
    assert "<- succeeded: written; there are 1 notes" in printed
    assert "-> notes_read {}" in printed
    assert "<- succeeded: The kettle is on." in printed
    assert "-- completed" in printed


def test_a_model_asks_another_model(server: Server, examples: Path) -> None:
    printed = run(examples / "two_models" / "run.py", "--url", server.url)
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
    assert "Run release (approval.deployment:release)" in made.stderr
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
    example_server: RestartableServer, examples: Path
) -> None:
    server = example_server.server
    script = examples / "approval" / "run.py"
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
        "release succeeded:",
        "│ version 1.2 is released",
        "The session is over: completed.",
    ]
    (session, *_) = httpx.get(f"{server.url}/v1/sessions").json()["data"]
    assert session["ending"] == "completed"
