"""What clients say of their conversations, as each of them writes it."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import Headers

from caesura.server.clients.hints import LONGEST_ID, Hints, hints_of, session_of, without_hint


def hints(**fields: Any) -> Hints:
    return hints_of(SimpleNamespace(**fields), clock=lambda: 1000.0)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Session-ID": "a"},
        {"session-id": "of all threads", "thread-id": "a"},
        {"session_id": "a"},
        {"X-Dynamo-Session-ID": "a"},
        {"X-Claude-Code-Session-Id": "a"},
        {"X-Session-ID": "x" * (LONGEST_ID + 1), "thread-id": "a"},
    ],
)
def test_agents_name_their_conversations_in_headers(headers: dict[str, str]) -> None:
    assert session_of(Headers(headers)) == "a"


def test_without_such_a_header_there_is_no_name() -> None:
    assert session_of(Headers({"x-request-id": "a"})) is None


def test_a_key_of_the_prompt_cache_or_a_trajectory_names_a_conversation() -> None:
    assert hints(prompt_cache_key="a").session_id == "a"
    transfer = {"agent_hint": {"trajectory_id": "b", "kv_priority": 1, "tools_available": ["x"]}}
    assert hints(prompt_cache_key="a", kv_transfer_params=transfer).session_id == "b"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({"prompt_cache_retention": "in_memory"}, None),
        ({"prompt_cache_retention": "24h"}, 24 * 3600.0),
        ({"prompt_cache_retention": "24h", "prompt_cache_options": {"ttl": "30m"}}, 1800.0),
        ({"prompt_cache_options": {"mode": "implicit"}}, None),
        ({"kv_transfer_params": {"agent_hint": {"lease_until": 1060.0}}}, 60.0),
        ({"nvext": {"agent_hints": {"speculative_prefill": True, "priority": 5}}}, 1800.0),
        ({"nvext": {"agent_hints": {"priority": 5, "osl": 64}}}, None),
    ],
)
def test_for_how_long_a_context_is_worth_keeping(
    fields: dict[str, Any], seconds: float | None
) -> None:
    assert hints(**fields).keep_seconds == seconds


@pytest.mark.parametrize("value", [7, "", None, ["a"], {"a": "b"}, "x" * (LONGEST_ID + 1)])
def test_what_has_another_form_says_nothing(value: object) -> None:
    fields = {
        "prompt_cache_key": value,
        "prompt_cache_retention": value,
        "prompt_cache_options": value,
        "nvext": value,
        "kv_transfer_params": {"agent_hint": {"trajectory_id": value, "lease_until": "soon"}},
    }
    assert hints(**fields) == Hints()
    assert hints(kv_transfer_params=value) == Hints()


def test_a_hint_is_no_transfer() -> None:
    assert without_hint({"agent_hint": {"trajectory_id": "a"}}) is None
    assert without_hint({"agent_hint": {}, "remote": 1}) == {"remote": 1}
    assert without_hint(None) is None
