"""vLLM's rendering of chats, with remembered tokens in place of a history rendered again."""

from array import array
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

from vllm.entrypoints.openai.responses.utils import construct_chat_messages_with_tool_call
from vllm.exceptions import VLLMError
from vllm.inputs import EngineInput, TextPrompt
from vllm.renderers import BaseRenderer, ChatParams, TokenizeParams, merge_kwargs
from vllm.renderers.chat_utils import ConversationMessage
from vllm.renderers.online_renderer import OnlineRenderer

from caesura.cml.chat_quoting import quoted_message, quoted_value
from caesura.cml.markers import has_markers
from caesura.engine.seams import chat_params
from caesura.server.clients.async_calls import described, with_running
from caesura.server.clients.hints import hints_of, without_hint
from caesura.server.clients.history import Message, digest, identity
from caesura.server.clients.tails import tail, tail_of_cut
from caesura.server.clients.transcripts import (
    Asked,
    ClientCall,
    ClientTranscript,
    Transcripts,
    find_continued,
    first_change,
)
from caesura.server.clients.turns import TOKEN, ClientTurn, Continuation, current_turn
from caesura.server.clients.vllm_async_calls import async_tools

# What a request may ask for that remembered tokens would not serve.
_LEFT_TO_VLLM = (
    "echo",
    "kv_transfer_params",
    "return_prompt_text",
    "return_token_offsets",
    "truncate_prompt_tokens",
    "use_beam_search",
)


def knows_cml(renderer: BaseRenderer) -> bool:
    """Whether the model was trained for CML: its tokenizer has the markers."""
    return has_markers(list(control_texts(renderer).values()))


def control_texts(renderer: BaseRenderer) -> dict[int, str]:
    """The text of each token that splits texts wherever it occurs."""
    # Other tokenizers than those of transformers, or none, leave every tail in doubt.
    added = getattr(renderer.tokenizer, "added_tokens_decoder", {})
    return {token: str(content) for token, content in added.items()}


def continuing_renderer(renderer: OnlineRenderer, transcripts: Transcripts) -> OnlineRenderer:
    """vLLM's renderer, continuing from transcripts; the one given stays as it is."""
    continuing = copy(renderer)
    continuing.preprocess_chat = ContinuedRendering(renderer, transcripts).preprocess_chat
    return continuing


def clamping_renderer(renderer: OnlineRenderer) -> OnlineRenderer:
    """The same renderer for requests that may ask for more output than there is room.

    vLLM refuses them before it takes as much as there is.
    """
    clamping, render = copy(renderer), renderer.preprocess_chat

    async def preprocess_chat(request: Any, messages: list[Any], **options: Any) -> Any:
        asked = {name: getattr(request, name) for name in ("max_tokens", "max_completion_tokens")}
        for name in asked:
            setattr(request, name, None)
        try:
            return await render(request, messages, **options)
        finally:
            for name, value in asked.items():
                setattr(request, name, value)

    clamping.preprocess_chat = preprocess_chat
    return clamping


class ContinuedRendering:
    """Renders chats as vLLM does, and continues remembered ones by their tokens.

    Args:
        renderer: vLLM's.
        transcripts: what is remembered.
    """

    def __init__(self, renderer: OnlineRenderer, transcripts: Transcripts) -> None:
        self._vllm = renderer
        self._transcripts = transcripts
        self._controls = control_texts(renderer.renderer)
        self._quotes = knows_cml(renderer.renderer)

    async def preprocess_chat(
        self, request: Any, messages: list[Any], **options: Any
    ) -> tuple[list[ConversationMessage], list[EngineInput]]:
        """As vLLM's, of the same name, which renders chat, messages and responses alike."""
        given = messages
        late = async_tools(getattr(request, "tools", None) or ())
        if self._quotes:
            messages = quoted_messages(messages)
            options = {**options, "tool_dicts": quoted_value(options.get("tool_dicts"))}
        plain = messages
        if late and not self._quotes:
            messages = with_running(messages, late)
            options = {**options, "tool_dicts": described(options.get("tool_dicts"), late)}
        turn = current_turn()
        if turn is None:
            return await self._vllm.preprocess_chat(request, messages, **options)
        hints = hints_of(request)
        turn.session_id = turn.session_id or hints.session_id
        turn.keep_seconds = hints.keep_seconds
        request.kv_transfer_params = without_hint(request.kv_transfer_params)
        turn.has_tools = bool(options.get("tool_dicts"))
        turn.messages = turn.first_change = None
        turn.continuation = Continuation.NONE
        params = self._chat_params(request, options)
        if _is_left_to_vllm(request, params):
            return await self._vllm.preprocess_chat(request, messages, **options)
        # Before vLLM renders: it changes tool calls in place.
        asked = Asked(
            turn.owner,
            identity(
                request.model,
                params.chat_template,
                params.chat_template_content_format,
                params.chat_template_kwargs,
            ),
            [digest(message) for message in given],
        )
        continued = find_continued(self._transcripts, asked)
        if continued is None:
            turn.first_change = first_change(self._transcripts, asked)
        names = frozenset[str]() if self._quotes else late
        template = RequestTemplate(self._vllm.renderer, params, self._controls, names)
        if turn.lane is not None:
            # A copy: vLLM changes tool calls in place.
            turn.lane.following = partial(self._following, template, deepcopy(plain))
        conversation, inputs = await self._vllm.preprocess_chat(request, messages, **options)
        if len(inputs) != 1 or inputs[0]["type"] != "token":
            return conversation, inputs
        limit = request.build_tok_params(self._vllm.model_config).max_input_tokens
        is_cut = getattr(request, "truncation", None) not in (None, "disabled")
        if is_cut and limit is not None and len(inputs[0]["prompt_token_ids"]) >= limit - 1:
            return conversation, inputs  # the beginning of the conversation may be missing
        turn.identity, turn.messages = asked.identity, asked.messages
        if continued is not None:
            tokens = await _continued_tokens(turn, continued, inputs[0], plain, template)
            if tokens is not None and (limit is None or len(tokens) < limit):
                turn.continuation = Continuation.TRANSCRIPT
                inputs = [_with_tokens(inputs[0], tokens)]
        return conversation, inputs

    async def _following(
        self,
        template: "RequestTemplate",
        messages: Sequence[Any],
        items: Sequence[dict[str, Any]],
        calls: Sequence[ClientCall],
    ) -> list[int] | None:
        """See `caesura.server.clients.lanes.Following`."""
        new: Sequence[Any] = construct_chat_messages_with_tool_call(list(items))
        if self._quotes:
            new = quoted_messages(new)
        return await tail_of_cut(template, calls, messages, new)

    def _chat_params(self, request: Any, options: Mapping[str, Any]) -> ChatParams:
        """What the template is rendered with, as vLLM puts it together."""
        defaults = merge_kwargs(
            options["default_template_kwargs"],
            {"tools": options.get("tool_dicts"), "tokenize": False},
        )
        template = options["default_template"], options["default_template_content_format"]
        params: ChatParams = chat_params(self._vllm, request, *template)
        return params.with_defaults(defaults)


class RequestTemplate:
    """The chat template as one request uses it. Implements `caesura.server.clients.tails.Template`.

    Args:
        renderer: vLLM's.
        params: the template, and all that it is given besides messages.
        controls: text of each token that splits texts wherever it occurs.
        late: tools whose results may come later, of a model that has to be told of each call.
    """

    def __init__(
        self,
        renderer: BaseRenderer,
        params: ChatParams,
        controls: Mapping[int, str],
        late: frozenset[str] = frozenset(),
    ) -> None:
        self._renderer = renderer
        self._params = params
        self._controls = controls
        self._late = late

    async def text(self, messages: Sequence[Message], *, generation_prompt: bool) -> str | None:
        """The rendered conversation; None where the template refuses it or takes too long."""
        kwargs = {**self._params.chat_template_kwargs, "add_generation_prompt": generation_prompt}
        params = replace(self._params, chat_template_kwargs=kwargs)
        shown = with_running(messages, self._late) if self._late else list(messages)
        try:
            _, prompt = await self._renderer.render_messages_async(shown, params)
        except (VLLMError, ValueError, TimeoutError):
            return None
        text = prompt.get("prompt")
        return text if isinstance(text, str) else None

    async def tokens(self, text: str) -> list[int]:
        """Token ids of a text, with nothing added."""
        params = TokenizeParams(max_total_tokens=None, add_special_tokens=False)
        (prompt,) = await self._renderer.tokenize_prompts_async([TextPrompt(prompt=text)], params)
        return list(prompt["prompt_token_ids"])

    def control_text(self, token: int) -> str | None:
        """The text of a control token; None when the token is none."""
        return self._controls.get(token)


async def _continued_tokens(
    turn: ClientTurn,
    transcript: ClientTranscript,
    rendered: EngineInput,
    messages: Sequence[Message],
    template: RequestTemplate,
) -> list[int] | None:
    """The prompt from the transcript; None where vLLM's rendering is to be used."""
    kept = transcript.tokens
    tokens = rendered["prompt_token_ids"]
    if len(tokens) > len(kept) and array(TOKEN, tokens[: len(kept)]) == kept:
        turn.continuation = Continuation.RENDERED
        return None
    turn.continuation = Continuation.RERENDERED
    following = await tail(
        template,
        transcript,
        messages[: len(transcript.prompt)],
        messages[len(transcript.history) :],
    )
    return None if following is None else [*kept, *following]


def _with_tokens(rendered: EngineInput, tokens: list[int]) -> EngineInput:
    """The same input with other tokens; the text is not theirs any more."""
    rest = {name: value for name, value in rendered.items() if name != "prompt"}
    return {**rest, "prompt_token_ids": tokens}


def _is_left_to_vllm(request: Any, params: ChatParams) -> bool:
    if any(getattr(request, name, None) for name in _LEFT_TO_VLLM):
        return True
    kwargs = params.chat_template_kwargs
    if kwargs.get("continue_final_message") or not kwargs.get("add_generation_prompt", True):
        return True
    return (getattr(request, "n", None) or 1) > 1


def quoted_messages(messages: Sequence[Any]) -> list[Any]:
    """The messages with all markers quoted, but in system messages."""
    return [
        quoted_message(message) if isinstance(message, Mapping) else message for message in messages
    ]
