"""The seams behave as in the version of vLLM that is installed, and as in the others."""

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from vllm.renderers import ChatParams

from caesura.engine import seams
from caesura.engine.connector import CaesuraConnector


class Chats:
    """A route of chats as vLLM has it from 0.33 on."""

    async def chat_completion_stream_generator_raw(self, first: int) -> AsyncIterator[int]:
        yield first
        yield first + 1

    async def chat_completion_stream_generator(self, first: int) -> AsyncIterator[str]:
        async for chunk in self.chat_completion_stream_generator_raw(first):
            yield f"data: {chunk}"


async def doubled(chunks: AsyncIterator[int]) -> AsyncIterator[int]:
    async for chunk in chunks:
        yield 2 * chunk


async def test_chunks_are_observed_before_they_are_events() -> None:
    serving = Chats()
    assert seams.observe_chunks(serving, doubled)
    events = [event async for event in serving.chat_completion_stream_generator(3)]
    assert events == ["data: 6", "data: 8"]


def test_a_route_without_chunks_says_so() -> None:
    assert not seams.observe_chunks(SimpleNamespace(), doubled)


class NamesEfforts:
    def build_chat_params(
        self, template: str | None, content_format: str, reasoning_effort_map: dict[str, str]
    ) -> ChatParams:
        return ChatParams(template, content_format, {"effort": reasoning_effort_map["high"]})


class NamesNone:
    def build_chat_params(self, template: str | None, content_format: str) -> ChatParams:
        return ChatParams(template, content_format, {})


@pytest.mark.parametrize(
    ("request_type", "kwargs"), [(NamesEfforts, {"effort": "max"}), (NamesNone, {})]
)
def test_names_of_efforts_reach_the_template_where_vllm_has_them(
    request_type: type, kwargs: dict[str, str]
) -> None:
    renderer = SimpleNamespace(reasoning_effort_map={"high": "max"})
    params = seams.chat_params(renderer, request_type(), "template", "string")
    assert params.chat_template_kwargs == kwargs


def test_the_connector_does_not_follow_kv_caches_that_move() -> None:
    """vLLM asks from 0.33 on whether it does, for its sleep mode."""
    assert not CaesuraConnector.supports_sleep_mode(None)


def test_vllms_own_command_line_is_imitated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_WORKER_MULTIPROC_METHOD", raising=False)
    seams.cli_env_setup()
    import os

    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
