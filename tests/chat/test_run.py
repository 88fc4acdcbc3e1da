"""`caesura chat` as its users meet it: in a process, at a real server."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from chat.chatting import chat, terminal, wire
from server.served import form, human, served
from session import planned
from session.calling.byte_model import text_of
from session.workplace import tool


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def risky() -> str:
    """Do it."""
    return "did it"


# One message, or lines from a pipe


async def test_one_message_gives_the_answer_alone(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(weather)) as server:
        plan = 'I look <<weather {"city": "Ulm"}>>\nthe end'
        done = await chat("--url", server.url, "--message", plan)
        (session,) = (await server.client.get("/v1/sessions")).json()["data"]
    assert done.status == 0
    assert done.answers == "heard: . I look \nheard: rain in Ulm. the end\n"
    assert '→ weather {"city": "Ulm"}' in done.notes
    assert "rain in Ulm" in done.notes
    assert (session["phase"], session["ending"]) == ("ended", "completed")
    assert done.notes.splitlines()[-1] == "the session has ended: completed"
    assert session["tools"] is None


async def test_tools_of_a_session_are_chosen(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(weather), tool(risky)) as server:
        for chosen in ("none", "weather"):
            await chat("--url", server.url, "--tools", chosen, "--message", "hello")
        listed = (await server.client.get("/v1/sessions")).json()["data"]
        unknown = await chat("--url", server.url, "--tools", "weathr", "--message", "hello")
    assert [session["tools"] for session in listed] == [["weather"], []]
    assert unknown.status == 2
    assert "weathr" in unknown.notes


async def test_a_question_that_nobody_can_answer_has_its_own_status(tmp_path: Path) -> None:
    """And the session goes on with an answer that is given later."""
    async with served(tmp_path / "db", tool(risky, approve=True)) as server:
        asked = await chat("--url", server.url, "--message", "<<risky {}>>\nthe end")
        assert asked.status == 3
        assert "Run risky (" in asked.notes
        (session,) = (await server.client.get("/v1/sessions")).json()["data"]
        back = f"caesura chat --url {server.url} --session {session['id']}"
        assert back in " ".join(asked.notes.split())
        answered = await chat(*back.split()[2:], "--message", "y")
    assert answered.status == 0
    assert answered.answers == "heard: did it. the end\n"


async def test_a_model_that_goes_on_beside_a_question_is_heard_to_its_end(tmp_path: Path) -> None:
    said = "meanwhile " * 60
    plan = f"{planned.call('a', 'risky')}{said}|?a| so: |=a|."
    tools = {"engine": planned.engine(), "formats": planned.FORMATS}
    async with served(tmp_path / "db", tool(risky, approve=True), **tools) as server:
        arguments = ("--url", server.url, "--function-calling", "async")
        asked = await chat(*arguments, "--message", plan)
    assert asked.status == 3
    assert asked.answers == f"{said}\n"
    assert "Run risky (" in asked.notes


async def test_piped_lines_wait_for_their_turn(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human(), tool(form)) as server:
        lines = [
            '<<ask {"question": "Which?", "choices": ["red", "blue"]}>>',
            "2",
            "<<form {}>>",
            '{"age": 7}',
            "last",
        ]
        done = await chat("--url", server.url, lines="\n".join(lines))
        (session,) = (await server.client.get("/v1/sessions")).json()["data"]
    assert done.status == 0, done.notes
    assert done.answers.splitlines() == [
        "heard: . ",
        "heard: blue. done",
        "heard: . ",
        'heard: {"age": 7}. done',
        "heard: . last",
    ]
    assert session["phase"] == "idle"
    assert session["turns"] == 5


async def test_a_session_that_could_not_answer_and_errors_have_their_statuses(
    tmp_path: Path,
) -> None:
    async with served(tmp_path / "db", human()) as server:
        plan = 'x <<ask {"question": "?"}>>'
        await chat("--url", server.url, "--message", plan)
        (session,) = (await server.client.get("/v1/sessions")).json()["data"]
        where = ("--url", server.url, "--session", session["id"])
        cancelled = await chat(*where, lines="/cancel\n")
        assert (cancelled.status, "cancelled" in cancelled.notes) == (1, True)
        unknown = await chat("--url", server.url, "--session", "sess_1", "--message", "x")
        assert (unknown.status, "there is no session" in unknown.notes) == (2, True)
        other = await chat("--url", server.url, "--model", "gpt", "--message", "x")
        assert (other.status, "serves demo" in other.notes) == (2, True)
    nowhere = await chat("--url", "http://127.0.0.1:9", "--message", "x")
    assert (nowhere.status, "caesura serve" in nowhere.notes) == (2, True)


async def test_the_key_may_be_in_the_environment(tmp_path: Path) -> None:
    async with served(tmp_path / "db", has_keys=True) as server:
        arguments = ("--url", server.url, "--message", "hello")
        assert (await chat(*arguments, CAESURA_API_KEY="anna")).status == 0
        assert (await chat(*arguments)).status == 2


# In a terminal


async def test_a_dialogue_with_an_approval(tmp_path: Path) -> None:
    async with (
        served(tmp_path / "db", tool(risky, approve=True)) as server,
        terminal("--url", server.url) as screen,
    ):
        await screen.until("/help shows the commands")
        screen.type("/help\r")
        await screen.until("/transcript")
        screen.type("/open\r")
        await screen.until("/open needs more")
        screen.type("<<risky {}>>\x1b[D\x1b[D\x7f}\r")
        await screen.until("Run risky (")
        screen.type("maybe\r")
        await screen.until("answer y, or n and a reason")
        screen.type("n not now\r")
        await screen.until("risky: refused: not now")
        await screen.until("← risky refused")
        await screen.until("done")
        screen.type("/sessions\r")
        await screen.until("* sess_")
        await screen.until("idle")
        screen.type("/transcript\r")
        await screen.until("← risky refused")
        screen.type("/say /bye\r")
        await screen.until("heard: . /bye")
        await screen.until("›")
        assert not screen.echoes
        screen.type("\x04")
        await screen.until("come back with: caesura chat --url")
        assert await screen.status() == 0
        assert screen.echoes


async def test_what_is_typed_while_a_call_runs_steers_and_nothing_is_written_into_it(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    async with (
        served(tmp_path / "db", tool(wait)) as server,
        terminal("--url", server.url) as screen,
    ):
        screen.type("<<wait {}>>\r")
        await screen.until("→ wait")
        screen.type("and then")
        await screen.until("and then")
        gate.set()
        await screen.until("← wait succeeded")
        await screen.until("heard: waited. done")
        await screen.until("› and then")  # it stands below, as it was
        screen.type(" this\r")
        await screen.until("heard: . and then this")


async def test_a_line_may_be_longer_than_the_terminal(tmp_path: Path) -> None:
    line = "日本" * 100
    async with served(tmp_path / "db") as server, terminal("--url", server.url) as screen:
        await screen.until("/help")
        screen.type(f"{line[1:]}\x01{line[0]}\x05!\r")
        await screen.until("heard: . ")
        (session,) = (await server.client.get("/v1/sessions")).json()["data"]
        path = f"/v1/sessions/{session['id']}/transcript"
        assert (await server.client.get(path)).json()["items"][0]["content"] == f"{line}!"


async def test_lines_that_are_pasted_are_one_message(tmp_path: Path) -> None:
    async with served(tmp_path / "db") as server, terminal("--url", server.url) as screen:
        await screen.until("/help")
        screen.type("\x1b[200~first\nsecond\x1b[201~")
        screen.type("\r")
        await screen.until("heard: . first")
        screen.type("\x1b[A\r")  # the line before
        await screen.until("heard: . first")
        (session,) = (await server.client.get("/v1/sessions")).json()["data"]
        path = f"/v1/sessions/{session['id']}/transcript"
        items = (await server.client.get(path)).json()["items"]
        said = [item["content"] for item in items if item["role"] == "user"]
        assert said == ["first\nsecond", "first\nsecond"]


async def test_a_line_that_was_begun_before_the_question_does_not_answer_it(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    async with (
        served(tmp_path / "db", tool(wait), tool(risky, approve=True)) as server,
        terminal("--url", server.url) as screen,
    ):
        screen.type("\x1b[200~<<wait {}>>\n<<risky {}>>\x1b[201~\r")
        await screen.until("→ wait")
        screen.type("y")
        await screen.until("y")
        gate.set()
        await screen.until("Run risky (")
        screen.type("\r")
        await screen.until("the question came while you typed")
        assert (await server.asked())["state"] == "waiting"
        screen.type("y\r")
        await screen.until("heard: waited | did it. done")


async def test_questions_are_answered_in_their_order_and_stay_until_then(tmp_path: Path) -> None:
    def daring() -> str:
        """Do it, too."""
        return "did it, too"

    tools = tool(risky, approve=True), tool(daring, approve=True)
    async with (
        served(tmp_path / "db", *tools) as server,
        terminal("--url", server.url) as screen,
    ):
        screen.type("<<risky {}>> <<daring {}>>\r")
        await screen.until("Run risky (")
        await screen.until("question 1 of 2")
        screen.type("/sessions\r")
        await screen.until("* sess_")
        await screen.until("question 1 of 2")  # still, below the list
        screen.type("\r")
        await screen.until("with:\r\n")  # above the prompt, where lines have no space at the end
        screen.type("n not now\r")
        await screen.until("Run daring (")
        screen.type("y\r")
        await screen.until("daring: accepted")
        await screen.until("did it, too")
        await screen.until("done")


async def test_a_question_stays_below_what_the_model_goes_on_to_say(tmp_path: Path) -> None:
    plan = f"{planned.call('a', 'risky')}{'meanwhile ' * 60}|?a| so: |=a|."
    tools = {"engine": planned.engine(), "formats": planned.FORMATS}
    async with (
        served(tmp_path / "db", tool(risky, approve=True), max_tokens=1024, **tools) as server,
        terminal("--url", server.url, "--function-calling", "async", columns=60) as screen,
    ):
        screen.type(f"{plan}\r")
        await screen.until("waiting for risky")
        await screen.until("Run risky (")
        screen.type("y\r")
        await screen.until("so: did it.")
        line = " ".join(["meanwhile"] * 6)
        assert any(written.endswith(line) for written in screen.screen.splitlines())


async def test_a_question_goes_with_its_call(tmp_path: Path) -> None:
    plan = f"{planned.call('a', 'risky')}{'x' * 2000}"  # more than it may write
    asked = asyncio.Event()

    async def pace(transcript: Sequence[int]) -> None:
        await asyncio.sleep(0)
        if "".join(map(text_of, transcript[-20:])) == "x" * 20:
            await asked.wait()

    engine = planned.engine()
    engine.pace = pace
    tools = {"engine": engine, "formats": planned.FORMATS}
    async with (
        served(tmp_path / "db", tool(risky, approve=True), max_tokens=1024, **tools) as server,
        terminal("--url", server.url, "--function-calling", "async") as screen,
    ):
        screen.type(f"{plan}\r")
        await screen.until("Run risky (")
        asked.set()
        await screen.until("no answer is needed any more")
        await screen.until("← risky cancelled")
        (session,) = (await server.client.get("/v1/sessions")).json()["data"]
        before = await server.until(session["id"], phase="idle")
        screen.type("so\r")  # is no answer
        await server.until(session["id"], turns=before["turns"] + 1)


async def test_nothing_that_a_tool_returns_reaches_the_terminal_raw(tmp_path: Path) -> None:
    def evil() -> str:
        """Try to steer the terminal."""
        return "\x1b[41mred\x1b]8;;http://evil\x1b\\link\x9b5m\rover\u202egnp"

    async with (
        served(tmp_path / "db", tool(evil)) as server,
        terminal("--url", server.url) as screen,
    ):
        screen.type("<<evil {}>>\r")
        await screen.until("← evil succeeded")
        await screen.until("done")
        written = screen.raw.decode()
        assert r"red\u001b]8;;http://evil\u001b\link\u009b5m\u000dover\u202egnp" in written
        assert not any(trick in written for trick in ("\x1b[41m", "\x1b]", "\x9b", "\u202e"))


async def test_ctrl_c_stops_the_session_and_then_leaves_it(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    async with served(tmp_path / "db", tool(wait)) as server:
        async with terminal("--url", server.url) as screen:
            screen.type("<<wait {}>>\r")
            await screen.until("→ wait")
            screen.type("\x03")
            await screen.until("Ctrl-C again leaves")
            (session,) = (await server.client.get("/v1/sessions")).json()["data"]
            assert session["held"]
            screen.type("\x03")
            await screen.until("come back with")
            assert await screen.status() == 0
        arguments = ("--url", server.url, "--session", session["id"])
        async with terminal(*arguments) as screen:
            await screen.until("› <<wait {}>>")
            await screen.until("→ wait")
            gate.set()
            screen.type("now this\r")
            await screen.until("heard: . now this")  # a message lets it go on
            assert not (await server.until(session["id"], phase="idle"))["held"]


async def test_a_chat_outlives_a_connection_that_breaks(tmp_path: Path) -> None:
    async with (
        served(tmp_path / "db", human()) as server,
        wire(server.url) as line,
        terminal("--url", line.url) as screen,
    ):
        screen.type('<<ask {"question": "Which one?"}>>\r')
        await screen.until("│ Which one?")
        line.cut()
        await screen.until("the connection is lost")
        screen.type("this\r")
        await screen.until("no answer from")
        line.mend()
        await screen.until("connected again")
        screen.type("that\r")
        await screen.until("heard: that")


async def test_a_question_that_is_answered_elsewhere_is_gone(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server, terminal("--url", server.url) as screen:
        screen.type('<<ask {"question": "Which one?"}>>\r')
        await screen.until("│ Which one?")
        asked = await server.asked()
        answer = {"accepted": True, "text": "mine"}
        await server.client.post(f"/v1/approvals/{asked['id']}", json=answer)
        await screen.until("somebody else has answered")
        await screen.until("heard: mine")
