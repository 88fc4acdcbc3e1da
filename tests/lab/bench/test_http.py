"""Agents against real servers, which take words for tokens."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from rich.console import Console

from caesura.lab.bench.http.run import run_http
from caesura.lab.bench.http.settings import HttpSettings
from caesura.lab.bench.replay import ReplayError
from caesura.lab.bench.stats import RunReport
from support.servers.chat import TEMPLATE_TOKENS, TOOL_TOKENS, ChatService, is_own
from support.tools.workbench import served

FIRST_TOKENS = TOOL_TOKENS + TEMPLATE_TOKENS  # beside the user's words
LATER_TOKENS = 2 * TEMPLATE_TOKENS

TRACE = [
    {
        "id": "long",
        "class": "agent",
        "segments": [
            {"append": 60, "output": 7, "pause_s": 0.3, "endpoint": "tool"},
            {"append": 40, "output": 5, "pause_s": 0.0, "endpoint": "tool"},
            {"append": 2, "output": 1},
        ],
    },
    {"id": "short", "class": "chat", "segments": [{"append": 50, "output": 3}]},
]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, TRACE)))
    return path


async def compared(
    services: Sequence[ChatService], trace: Path, **changes: object
) -> Sequence[RunReport]:
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(served(one.app())) for one in services]
        settings = HttpSettings.model_validate(
            {
                "base_urls": urls,
                "policies": ["stock", "ours"][: len(urls)],
                "workload": str(trace),
                "sessions": 2,
                "seeds": [0],
                "rates": [100],
                "scale_tokens": 1,
                "scale_pauses": 1,
                "session_ids": True,
                **changes,
            }
        )
        return await asyncio.to_thread(
            run_http, settings, command="caesura bench http", console=Console(quiet=True)
        )


async def test_each_turn_has_the_whole_conversation_and_a_result_of_the_traces_length(
    trace: Path,
) -> None:
    service = ChatService()
    (run,) = await compared([service], trace)
    assert (run.policy, run.sessions, run.completed) == ("stock", 2, 2)
    by_session: dict[str, list] = {}
    for one in service.conversations("-0-"):
        by_session.setdefault(one.headers["x-session-id"], []).append(one)
    short, long = sorted(by_session.values(), key=len)
    assert len(short) == 1
    assert [one.lengths for one in long] == [
        [60 - FIRST_TOKENS],
        [60 - FIRST_TOKENS, 7, 40 - LATER_TOKENS],
        [60 - FIRST_TOKENS, 7, 40 - LATER_TOKENS, 5, 1],  # a word at least
    ]
    assert [message["role"] for message in long[2].body["messages"]] == [
        "user", "assistant", "tool", "assistant", "tool",
    ]  # fmt: skip
    before, after = long[1].body["messages"], long[2].body["messages"]
    assert after[: len(before)] == before
    assert long[1].body["messages"][1]["content"] == " ".join(
        ["", *(f"word{number}" for number in range(7))]
    )
    for one in long:
        assert one.body["ignore_eos"]
        assert one.body["tools"]
        assert one.body["allowed_token_ids"]
    assert [one.body["max_tokens"] for one in long] == [7, 5, 1]
    assert long[1].seconds - long[0].seconds >= 0.3  # the tool took so long


async def test_servers_take_turns_and_get_the_same_texts(trace: Path) -> None:
    services = [ChatService(), ChatService()]
    runs = await compared(services, trace, seeds=[0, 1])
    assert [(run.policy, run.seed) for run in runs] == [
        ("stock", 0), ("ours", 0), ("ours", 1), ("stock", 1),
    ]  # fmt: skip
    texts = []
    for service, numbers in zip(services, [("-0-", "-3-"), ("-1-", "-2-")], strict=True):
        assert service.resets == 2
        asked = [service.conversations(number) for number in numbers]
        assert all(len(one) == 4 for one in asked)
        texts.append([{one.body["messages"][0]["content"] for one in of_run} for of_run in asked])
    assert texts[0] == texts[1]
    assert not texts[0][0] & texts[0][1], "no round has another's prompts"


async def test_clients_without_session_ids_are_as_they_always_were(trace: Path) -> None:
    service = ChatService()
    await compared([service], trace, session_ids=False)
    assert not service.conversations("")[0].headers.get("x-session-id")


async def test_a_server_that_does_not_tokenize_is_asked_for_any_words(trace: Path) -> None:
    service = ChatService(tokenizes=False)
    (run,) = await compared([service], trace)
    assert run.completed == 2
    assert all("allowed_token_ids" not in one.body for one in service.asked)


async def test_a_server_with_words_of_its_own_is_asked_for_those(trace: Path) -> None:
    service = ChatService(own_words=True)
    (run,) = await compared([service], trace)
    assert run.completed == 2
    for one in service.asked:
        assert one.body["allowed_token_ids"]
        said = [message for message in one.body["messages"] if message["role"] != "assistant"]
        assert all(is_own(word) for message in said for word in message["content"].split())


@pytest.fixture
def long_trace(tmp_path: Path) -> Path:
    segments = [{"append": 3000, "output": 9, "pause_s": 0}, {"append": 900, "output": 9}]
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"id": "x", "class": "agent", "segments": segments}))
    return path


async def test_contexts_have_room_where_lengths_are_not_exact(long_trace: Path) -> None:
    (exact,) = await compared([ChatService()], long_trace, sessions=1)
    (about,) = await compared([ChatService(tokenizes=False)], long_trace, sessions=1)
    assert (exact.truncated_sessions, about.truncated_sessions) == (0, 1)


async def test_words_of_several_tokens_are_not_used(trace: Path) -> None:
    service = ChatService()
    await compared([service], trace, sessions=20)
    texts = [message["content"] for one in service.asked for message in one.body["messages"]]
    assert not any("because" in text.split() for text in texts)


@pytest.mark.parametrize(
    ("service", "changes", "reason"),
    [
        (ChatService(forces_lengths=False), {}, "refuses a request; it has to take ignore_eos"),
        (ChatService(cut=1), {}, r"asked for \d+ tokens and received"),
        (ChatService(), {"model": "other"}, "does not serve other; it has: words"),
        (ChatService(key="secret"), {}, "asks for a key: give --api-key"),
    ],
)
async def test_what_a_server_does_not_do_is_said(
    service: ChatService, changes: dict[str, object], reason: str, trace: Path
) -> None:
    with pytest.raises(ReplayError, match=reason):
        await compared([service], trace, **changes)


async def test_a_key_is_sent_and_not_written(trace: Path, tmp_path: Path) -> None:
    service, path = ChatService(key="secret"), tmp_path / "results.json"
    (run,) = await compared([service], trace, api_key="secret", json_path=path)
    assert run.completed == 2
    assert "secret" not in path.read_text()


def test_a_server_that_is_not_there_is_named(trace: Path) -> None:
    settings = HttpSettings(base_urls=("http://127.0.0.1:9",), workload=str(trace), sessions=1)
    assert settings.policies == ("127.0.0.1:9",)
    with pytest.raises(ReplayError, match=r"no server answers at http://127\.0\.0\.1:9/v1"):
        run_http(settings, command="", console=Console(quiet=True))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policies": ("a",)}, "2 servers and 1 names"),
        ({"base_urls": ("127.0.0.1:8000", "http://b")}, "is no address"),
        ({"base_urls": ()}, "at least 1"),
        ({"policy_option": {"ttl_seconds": 1}}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], reason: str) -> None:
    values = {"base_urls": ("http://a", "http://b"), "policies": ("a", "b"), **changes}
    with pytest.raises(ValueError, match=reason):
        HttpSettings.model_validate(values)
