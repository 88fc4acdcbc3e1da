"""The vLLM methods that the server's adapters wrap are as they were when that was tested."""

import inspect

import pytest
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses
from vllm.plugins.endpoint_plugins.interface import EndpointPlugin
from vllm.renderers import BaseRenderer
from vllm.renderers.online_renderer import OnlineRenderer

from caesura.server.plugin import CaesuraPlugin

SIGNATURES = {
    OnlineRenderer.preprocess_chat: (
        "self, request, messages, default_template, default_template_content_format, "
        "default_template_kwargs, tool_dicts, parser, skip_mm_cache"
    ),
    OpenAIServingChat.create_chat_completion: "self, request, raw_request",
    BaseRenderer.render_messages_async: "self, messages, params",
    BaseRenderer.tokenize_prompts_async: "self, prompts, params",
}


@pytest.mark.parametrize(
    ("method", "parameters"),
    SIGNATURES.items(),
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signature(method: object, parameters: str) -> None:
    assert ", ".join(inspect.signature(method).parameters) == parameters


def test_all_routes_render_their_chats_in_one_place() -> None:
    """And by name: `ContinuedRendering` takes options from keyword arguments."""
    for method in (OnlineRenderer.render_chat, OnlineRenderer.render_responses):
        source = inspect.getsource(method)
        assert "await self.preprocess_chat(" in source
        for name in ("default_template", "default_template_content_format", "tool_dicts"):
            assert f"{name}=" in source


def test_messages_are_answered_by_chat_completions() -> None:
    assert "self.create_chat_completion(" in inspect.getsource(
        AnthropicServingMessages.create_messages
    )


def test_every_response_is_completed_in_one_place() -> None:
    source = inspect.getsource(OpenAIServingResponses)
    assert source.count("ResponseCompletedEvent(\n") == 1
    assert source.count("await self.responses_full_generator(") == 3


def test_the_engine_client_generates_from_these_arguments() -> None:
    names = list(inspect.signature(EngineClient.generate).parameters)
    assert names[:4] == ["self", "prompt", "sampling_params", "request_id"]


def test_the_plugin_is_what_vllm_expects() -> None:
    assert isinstance(CaesuraPlugin(), EndpointPlugin)


def test_chats_have_the_defaults_of_sampling() -> None:
    source = inspect.getsource(OpenAIServingChat.__init__)
    assert "self.default_sampling_params = self.model_config.get_diff_sampling_param()" in source
    assert "self.override_max_tokens = (" in source
