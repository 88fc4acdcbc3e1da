"""How sessions are sampled: as the request says, else as the served model's defaults have it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens

from caesura.engine.serving.token_engines import to_vllm
from caesura.server.sessions.vllm_sessions import sampling_defaults
from caesura.session.protocol import EngineStream, Sampling, SamplingDefaults
from caesura.session.records import SAMPLED, SessionSpec
from server.served import served
from session.scripted import END, model
from support.engines.fakes import FakeEngine

USER = {"role": "user", "content": "hi"}
DEFAULTS = SamplingDefaults(
    max_tokens=300,
    most_tokens=400,
    temperature=0.6,
    top_p=0.95,
    top_k=20,
    min_p=0.1,
    repetition_penalty=1.05,
    presence_penalty=0.2,
    frequency_penalty=0.3,
)
ADVISED = Sampling(
    300,
    temperature=0.6,
    top_p=0.95,
    top_k=20,
    min_p=0.1,
    repetition_penalty=1.05,
    presence_penalty=0.2,
    frequency_penalty=0.3,
)
OTHER = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""What must not be taken for nothing said."""


class RecordingEngine(FakeEngine):
    """Notes how sessions are sampled."""

    def __init__(self) -> None:
        super().__init__(END, model)
        self.sampled: list[Sampling] = []

    async def open(
        self, session_id: str, token_ids: Any, sampling: Sampling, endpoint: str | None = None
    ) -> EngineStream:
        self.sampled.append(sampling)
        return await super().open(session_id, token_ids, sampling, endpoint)


ROUTES = {
    "chat": ("/v1/chat/completions", {"messages": [USER], "caesura": {"tools": []}}, "max_tokens"),
    "responses": ("/v1/responses", {"input": "hi", "caesura": {"tools": []}}, "max_output_tokens"),
    "sessions": ("/v1/sessions", {"messages": [USER], "keep_open": False}, "max_tokens"),
}


@pytest.mark.parametrize("route", ROUTES)
async def test_what_is_said_wins_and_the_rest_is_the_models(tmp_path: Path, route: str) -> None:
    path, body, longest = ROUTES[route]
    cases: list[tuple[dict[str, Any], Sampling]] = [
        ({}, ADVISED),
        (dict.fromkeys((*SAMPLED, longest)), ADVISED),
        *(({name: value}, replace(ADVISED, **{name: value})) for name, value in OTHER.items()),
        ({longest: 7}, replace(ADVISED, max_tokens=7)),
        ({longest: 500}, replace(ADVISED, max_tokens=400)),
    ]
    engine = RecordingEngine()
    async with served(tmp_path / "db", engine=engine) as server:
        server.work.dialogue.sampling = DEFAULTS
        for fields, expected in cases:
            answer = await server.client.post(path, json={**body, **fields})
            assert answer.status_code in (200, 201), answer.text
            if route == "sessions":
                await server.until(answer.json()["id"], phase="ended")
            assert engine.sampled.pop() == expected, fields


async def test_a_session_goes_on_as_it_was_made(tmp_path: Path) -> None:
    """Whatever the operator has set meanwhile."""
    engine = RecordingEngine()
    async with served(tmp_path / "db", engine=engine) as server:
        server.work.dialogue.sampling = DEFAULTS
        made = await server.client.post("/v1/sessions", json={"messages": [USER]})
        record = await server.work.store.session(made.json()["id"])
        assert record is not None
        assert record.spec.sampling() == ADVISED


async def test_without_any_advice_a_turn_may_fill_the_context(tmp_path: Path) -> None:
    spec = SessionSpec(messages=[USER]).settled(SamplingDefaults(), 8192)
    assert spec.sampling() == Sampling(8192, temperature=1.0)


@pytest.mark.parametrize(("limit", "tokens"), [(None, 300), (100, 100), (350, 300)])
async def test_what_is_not_said_is_within_the_limits_of_sessions(
    tmp_path: Path, limit: int | None, tokens: int
) -> None:
    engine = RecordingEngine()
    async with served(tmp_path / "db", engine=engine, max_tokens=limit) as server:
        server.work.dialogue.sampling = DEFAULTS
        for path, body, _ in ROUTES.values():
            answer = await server.client.post(path, json=body)
            assert answer.status_code in (200, 201), answer.text
            if path == "/v1/sessions":
                await server.until(answer.json()["id"], phase="ended")
            assert engine.sampled.pop().max_tokens == tokens


@pytest.mark.parametrize(
    "advice",
    [
        {},
        {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
        {"min_p": 0.05, "repetition_penalty": 1.1, "max_tokens": 2048},
        {"presence_penalty": 1.5, "frequency_penalty": -0.5, "stop_token_ids": [7]},
    ],
)
@pytest.mark.parametrize(
    "said", [{}, {"temperature": 0.0}, {"top_p": 1.0, "top_k": 0}, {"max_tokens": 5000}]
)
@pytest.mark.parametrize("limit", [None, 1000])
def test_sessions_are_sampled_as_vllms_own_routes(
    advice: dict[str, Any], said: dict[str, Any], limit: int | None
) -> None:
    request = ChatCompletionRequest(messages=[USER], **said)
    most = get_max_tokens(8192, said.get("max_tokens"), 0, advice, limit)
    expected = request.to_sampling_params(most, advice)
    chat = SimpleNamespace(default_sampling_params=advice, override_max_tokens=limit)
    spec = SessionSpec(messages=[USER], **said).settled(sampling_defaults(chat), 8192)
    found = to_vllm(spec.sampling(), None)
    for name in (*SAMPLED, "max_tokens"):
        assert getattr(found, name) == getattr(expected, name), name
