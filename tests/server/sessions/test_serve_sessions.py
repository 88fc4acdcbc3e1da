"""`caesura serve` with sessions: the real engine, server, parser and clients."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from support.servers.keyed import KEY, OTHER
from support.servers.process import RestartableServer, Server
from support.waiting import HANG_SECONDS, poll

pytestmark = pytest.mark.engine


@pytest.fixture
def server(server_with_keys: RestartableServer) -> Server:
    return server_with_keys.server


def api(server: Server, key: str = KEY) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def body(text: str, **fields: object) -> dict[str, object]:
    message = {"role": "user", "content": text}
    return {"messages": [message], "temperature": 0, "max_tokens": 200, **fields}


def follow(client: httpx.Client, session_id: str, kind: str, after: int = 0) -> dict:
    """The next event of a kind."""
    while True:
        parameters = {"stream": False, "after": after, "wait_seconds": 60}
        listed = client.get(f"/v1/sessions/{session_id}/events", params=parameters).json()
        assert listed["data"], f"no {kind} came"
        for event in listed["data"]:
            after = event["id"]
            if event["type"] == kind:
                return event


def approve(client: httpx.Client, asked: dict) -> None:
    answer = client.post(f"/v1/approvals/{asked['approval_id']}", json={"accepted": True})
    assert answer.status_code == 200, answer.text


def test_a_session_calls_waits_for_a_human_and_answers(server: Server) -> None:
    with api(server) as client:
        made = client.post("/v1/sessions", json=body("Weather and time?"))
        assert made.status_code == 201, made.text
        session_id = made.json()["id"]
        weather = follow(client, session_id, "call.done")
        assert (weather["name"], weather["content"]) == ("get_weather", "it rains in Berlin")
        asked = follow(client, session_id, "approval.requested")
        assert (asked["tool"], asked["arguments"]) == ("get_time", {"city": "Berlin"})
        approve(client, asked)
        time = follow(client, session_id, "call.done", asked["id"])
        assert time["content"] == "it is noon in Berlin"
        output = follow(client, session_id, "output.done", time["id"])
        assert output["cached_tokens"] > 0, "its context was kept"
        session = client.get(f"/v1/sessions/{session_id}").json()
        assert session["output_text"] == output["text"]

        steered = client.post(f"/v1/sessions/{session_id}/messages", json={"content": "more"})
        assert steered.status_code == 202
        told = follow(client, session_id, "message.added", output["id"])
        assert told["content"] == "more"
        assert client.post(f"/v1/sessions/{session_id}/cancel").json()["ending"] == "cancelled"
    assert server.process.poll() is None, "the integrity check at idle ends the server"


def test_an_asynchronous_session_goes_on_with_futures(server: Server) -> None:
    """The model has no markers: its calls, in its own format, are answered at once."""
    with api(server) as client:
        asked = body("Weather and time?", function_calling="async", keep_open=False)
        made = client.post("/v1/sessions", json=asked).json()
        assert made.get("protocol") == "futures", made
        session_id = made["id"]
        trapped = follow(client, session_id, "session.trapped")
        time = follow(client, session_id, "approval.requested")
        assert trapped["call_ids"] == [time["call_id"]], "the answer came without waiting"
        approve(client, time)
        ended = follow(client, session_id, "session.ended", trapped["id"])
        assert ended["ending"] == "completed"
        items = client.get(f"/v1/sessions/{session_id}/transcript").json()["items"]
        read = [item["content"] for item in items if item["role"] == "tool"]
        assert read == ["it rains in Berlin", "it is noon in Berlin"]
        refused = client.post("/v1/sessions", json={**asked, "protocol": "cml"})
        assert refused.status_code == 400
        assert "caesura train" in refused.json()["error"]["message"]


def test_keys_are_checked_and_separate_owners(server: Server) -> None:
    with api(server) as anna, api(server, OTHER) as bert, api(server, "wrong") as nobody:
        made = anna.post("/v1/sessions", json=body("hello", keep_open=False, tools=[])).json()
        assert bert.get(f"/v1/sessions/{made['id']}").status_code == 404
        assert nobody.get(f"/v1/sessions/{made['id']}").status_code == 401
        assert made["id"] in {s["id"] for s in anna.get("/v1/sessions").json()["data"]}
        assert bert.get("/v1/sessions").json()["data"] == []


def test_a_context_of_another_owner_is_not_found(server: Server) -> None:
    def cached(key: str) -> int:
        with api(server, key) as client:
            asked = body("a guess of what another has asked " * 20, tools=[], keep_open=False)
            made = client.post("/v1/sessions", json={**asked, "max_tokens": 1}).json()
            return follow(client, made["id"], "output.done")["cached_tokens"]

    first, again, guessed = cached(KEY), cached(KEY), cached(OTHER)
    assert again > first
    assert again > 100
    assert guessed == 0


def test_the_dashboard_counts_what_all_do_and_shows_its_page_without_a_key(server: Server) -> None:
    page = httpx.get(f"{server.url}/dashboard", follow_redirects=True)
    assert page.headers["content-type"].startswith("text/html")
    assert httpx.get(f"{server.url}/v1/caesura/overview").status_code == 401
    with api(server) as client:
        made = client.post("/v1/sessions", json=body("Weather and time?")).json()
        asked = follow(client, made["id"], "approval.requested")
        with client.stream("GET", "/v1/caesura/overview/events") as stream:
            samples = (json.loads(line[6:]) for line in stream.iter_lines() if line[:5] == "data:")
            overview = next(one for one in samples if one["approvals_waiting"])
        assert overview["sessions"]["by_activity"]["waiting_for_human"] == 1
        assert {tool["name"] for tool in overview["tools"]} == {"get_weather", "get_time"}
        assert overview["engine"]["device_tokens"] > 0
        assert sum(one["pauses"] for one in overview["engine"]["endpoints"]) > 0
        approve(client, asked)
        client.post(f"/v1/sessions/{made['id']}/cancel")


@pytest.mark.parametrize("stream", [True, False])
async def test_openais_client_gets_answers_of_server_run_tools(
    server: Server, stream: bool
) -> None:
    client = server.client(KEY)
    asked = {
        "model": "demo",
        "temperature": 0,
        "extra_body": {"caesura": {"tools": ["get_weather"], "show_calls": True}},
    }
    chat = await client.chat.completions.create(
        messages=[{"role": "user", "content": "Weather?"}], max_tokens=200, **asked, stream=stream
    )
    if stream:
        chunks = [chunk async for chunk in chat]
        names = [
            call.function.name
            for chunk in chunks
            for call in chunk.choices[0].delta.tool_calls or []
        ]
        # The script calls both; what is not offered is not there.
        assert names == ["get_weather", "get_time"]
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        assert [call["ending"] for call in chat.caesura["calls"]] == ["succeeded", "unknown_tool"]
        assert chat.choices[0].message.content
    response = await client.responses.create(
        input="Weather?", max_output_tokens=200, **asked, stream=stream
    )
    if stream:
        response = [event async for event in response][-1].response
    kinds = [item.type for item in response.output]
    assert kinds.count("function_call") == kinds.count("function_call_output") == 2
    assert kinds[-1] == "message"


async def test_requests_without_server_tools_are_vllms(server: Server) -> None:
    client = server.client(KEY)
    answer = await client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "hello"}], max_tokens=4, n=2
    )
    assert len(answer.choices) == 2
    with pytest.raises(openai.AuthenticationError):
        await server.client("wrong").chat.completions.create(
            model="demo", messages=[], extra_body={"caesura": {"tools": "all"}}
        )


def test_sessions_survive_a_restart_and_a_stream_does_not_stop_one(
    server_with_keys: RestartableServer,
) -> None:
    """The server is asked to stop while a client follows a session that waits for a human."""
    server = server_with_keys.server
    with api(server) as client:
        session_id = client.post("/v1/sessions", json=body("Weather and time?")).json()["id"]
        asked = follow(client, session_id, "approval.requested")
        with client.stream("GET", f"/v1/sessions/{session_id}/events") as events:
            lines = events.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            for _ in lines:
                pass
    assert server.process.wait(HANG_SECONDS) == 0
    server_with_keys.stop()
    server = server_with_keys.start()
    with api(server) as client:
        session = client.get(f"/v1/sessions/{session_id}").json()
        assert session["phase"] == "calling"
        assert [approval["id"] for approval in session["approvals"]] == [asked["approval_id"]]
        approve(client, asked)
        output = follow(client, session_id, "output.done", asked["id"])
        assert output["text"]
        assert client.get(f"/v1/sessions/{session_id}").json()["phase"] == "idle"
    database = server_with_keys.directory / "caesura.db"
    require_log(server_with_keys.log.read_text(), database, server.url)


def require_log(log: str, database: Path, url: str) -> None:
    """Our lines are beside vLLM's, from both processes, and end the start."""
    ours = re.findall(
        r"^\((\w+) pid=\d+\) INFO [-\d]+ [:\d]+ \[(caesura\S+):\d+\] (.*)$", log, re.M
    )
    (_, _, blocks), *last = ours
    assert ours[0][:2] == ("EngineCore", "caesura.engine.connector")
    assert " host blocks of " in blocks
    assert last == [
        ("APIServer", "caesura.server.announcement", line)
        for line in (
            f"Sessions are kept in {database} (1 of them open)",
            "Tools that the server runs: get_time, get_weather",
            f"Open at {url} to anyone with an API key; /health, /ping and the dashboard's page "
            "to everybody",
            f"Dashboard: {url}/dashboard/; now type `caesura chat --url {url} --api-key KEY`",
        )
    ]
    assert log.index(last[0][2]) > log.index("Waiting for application startup")


def test_a_misspelt_configuration_is_named_before_the_model_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "caesura.toml"
    file.write_text("[server]\nbody_limits = 1\n")
    command = [sys.executable, "-m", "caesura.cli", "serve", "no-such-model"]
    done = subprocess.run(
        [*command, "--config", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    told = "".join(done.stderr.split())  # it is wrapped anywhere
    assert "caesura.toml:2:server.body_limits:isnotasettinghere" in told


def test_an_engine_that_is_killed_is_told_and_sessions_go_on_after_a_restart(
    server_with_keys: RestartableServer,
) -> None:
    server = server_with_keys.server
    with api(server) as client:
        session_id = client.post("/v1/sessions", json=body("Weather and time?")).json()["id"]
        asked = follow(client, session_id, "approval.requested")
        written = client.post("/v1/sessions", json=body("hello", tools=[], max_tokens=3000)).json()
        generating = {"model": "demo", "stream": True, **body("hello", max_tokens=3000)}
        with client.stream("POST", "/v1/chat/completions", json=generating) as stream:
            lines = stream.iter_lines()
            next(lines)
            engine_process(server).kill()
            told = seen_by_probes(server)
            left = [line for line in lines if line]
    assert any("error" in line for line in left), "its client is told, and does not hang"
    assert 503 in told or told[-1] == "gone"
    assert 200 not in told[told.index(503) :] if 503 in told else True
    assert server.process.wait(HANG_SECONDS) is not None  # whoever watches it starts it again
    server_with_keys.stop()
    server = server_with_keys.start()
    with api(server) as client:
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert client.get(f"/v1/sessions/{session_id}").json()["phase"] == "calling"
        approve(client, asked)
        assert follow(client, session_id, "output.done", asked["id"])["text"]
        assert client.get(f"/v1/sessions/{session_id}").json()["phase"] == "idle"
        assert follow(client, written["id"], "output.done")["output_tokens"] == 3000
        for made in (session_id, written["id"]):
            client.post(f"/v1/sessions/{made}/cancel")


def engine_process(server: Server) -> psutil.Process:
    """The process of the engine core: the only one that began after its server, as a fork of the
    same process."""
    served = psutil.Process(server.process.pid)
    beside = psutil.Process(served.ppid()).children(recursive=True)
    (engine,) = [one for one in beside if one.create_time() > served.create_time()]
    return engine


def seen_by_probes(server: Server) -> list[int | str]:
    """What `/health` says, again and again, until the server is gone."""
    seen: list[int | str] = []

    def is_gone() -> bool:
        try:
            status: int | str = httpx.get(f"{server.url}/health").status_code
        except httpx.TransportError:
            status = "gone"
        if seen[-1:] != [status]:
            seen.append(status)
        return status == "gone"

    assert poll(is_gone)
    return seen
