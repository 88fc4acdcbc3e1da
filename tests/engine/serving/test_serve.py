"""`caesura serve` with the real `openai` package: clients that know nothing of pauses."""

import asyncio

import openai
import pytest

from servers import RestartableServer, Server

pytestmark = pytest.mark.engine

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": text,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    for name, text in (("get_weather", "The weather in a city."), ("get_time", "Its local time."))
]


@pytest.fixture
def server(example_server: RestartableServer) -> Server:
    return example_server.server


async def agent(client: openai.AsyncOpenAI, question: str, stream: bool) -> list[str]:
    """An ordinary agent loop: call the model, run its tools, send everything back."""
    messages: list[dict[str, object]] = [{"role": "user", "content": question}]
    called: list[str] = []
    for _ in range(5):
        if stream:
            message = await _streamed(client, messages)
        else:
            answer = await client.chat.completions.create(
                model="demo", messages=messages, tools=TOOLS, temperature=0, max_tokens=200
            )
            message = answer.choices[0].message.model_dump(exclude_none=True)
        messages.append(message)
        if not message.get("tool_calls"):
            assert message["content"]
            return called
        for call in message["tool_calls"]:
            called.append(call["function"]["name"])
            messages.append(
                {"role": "tool", "tool_call_id": call["id"], "content": f"{len(called)} degrees"}
            )
    raise AssertionError("the agent did not come to an end")


async def _streamed(client, messages):
    content, calls = "", {}
    stream = await client.chat.completions.create(
        model="demo", messages=messages, tools=TOOLS, temperature=0, max_tokens=200, stream=True
    )
    async for chunk in stream:
        delta = chunk.choices[0].delta
        content += delta.content or ""
        for part in delta.tool_calls or []:
            call = calls.setdefault(part.index, {"id": part.id, "name": "", "arguments": ""})
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    tool_calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in calls.values()
    ]
    message = {"role": "assistant", "content": content}
    return message | ({"tool_calls": tool_calls} if tool_calls else {})


def test_unmodified_agents_claim_their_paused_contexts(server: Server) -> None:
    async def run() -> list[list[str]]:
        client = server.client()
        questions = [f"Question {index}: weather and time in Berlin?" for index in range(20)]
        return await asyncio.gather(
            *(agent(client, text, stream=index % 2 == 0) for index, text in enumerate(questions))
        )

    tools = ("get_weather", "get_time")
    resumed = {"ending": "resumed"}
    pauses = {tool: server.metric("pauses", endpoint=tool) + 20 for tool in tools}
    endings = {
        tool: server.metric("pause_endings", endpoint=tool, **resumed) + 20 for tool in tools
    }
    tokens = ("held_tokens", "loaded_tokens", "recomputed_tokens")
    before = {name: server.metric(name) for name in tokens}
    assert asyncio.run(run()) == [list(tools)] * 20
    for tool in tools:
        assert server.wait_for("pauses", pauses[tool], endpoint=tool) == pauses[tool]
        ended = server.wait_for("pause_endings", endings[tool], endpoint=tool, **resumed)
        assert ended == endings[tool]
    held, loaded, recomputed = (server.metric(name) - before[name] for name in tokens)
    assert recomputed < held + loaded, "most of each paused context is found again"


def test_session_id_makes_a_plain_completion_a_pause(server: Server) -> None:
    async def run() -> None:
        client = server.client()
        headers = {"X-Session-ID": "conversation-1"}
        prompt = "tell me a story " * 10
        first = await client.completions.create(
            model="demo", prompt=prompt, max_tokens=40, temperature=0, extra_headers=headers
        )
        await client.completions.create(
            model="demo",
            prompt=prompt + first.choices[0].text + " and then?",
            max_tokens=20,
            temperature=0,
            extra_headers=headers,
        )

    before = server.metric("pause_endings", endpoint="client", ending="resumed")
    asyncio.run(run())
    assert server.wait_for("pause_endings", before + 1, endpoint="client", ending="resumed")


def test_clients_that_leave_take_nothing_along(server: Server) -> None:
    async def leave_midstream(client: openai.AsyncOpenAI, index: int) -> None:
        stream = await client.completions.create(
            model="demo", prompt=f"count up {index} " * 8, max_tokens=600, stream=True
        )
        async for _ in stream:
            break
        await stream.close()

    async def leave_between_turns(client: openai.AsyncOpenAI, index: int) -> None:
        await client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": f"leaving {index}"}],
            tools=TOOLS,
            temperature=0,
            max_tokens=200,
        )

    async def run() -> None:
        client = server.client()
        await asyncio.gather(*(leave_midstream(client, index) for index in range(10)))
        await asyncio.gather(*(leave_between_turns(client, index) for index in range(10)))

    paused_before = server.metric("pauses_now")
    asyncio.run(run())
    # Ten left between turns: their pauses wait, but the memory is anyone's (soft holds).
    assert server.wait_for("pauses_now", paused_before + 10) == paused_before + 10
    assert server.wait_for("holding_now", 0) == 0, "their contexts are in host memory now"

    async def big() -> None:
        client = server.client()
        text = "all the memory there is " * 50
        await asyncio.gather(
            *(
                client.completions.create(model="demo", prompt=f"{index}" + text, max_tokens=8)
                for index in range(3)
            )
        )

    asyncio.run(big())
    assert server.process.poll() is None, "the integrity check at idle ends the server if it fails"
