"""CML in a model's tokens: `session.calling.Codec` on its tokenizer and chat template."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from pydantic import JsonValue
from vllm.logger import init_logger

from caesura.cml import (
    CallStop,
    FrameRules,
    Interrupt,
    KnownTools,
    Limits,
    Marker,
    Mode,
    MonitorSettings,
    ReasoningEdge,
    ReasoningTags,
    State,
    TextMonitor,
    TextRules,
    TokenMonitor,
    ToolDescription,
    Vocabulary,
    duration_sentence,
    encode_text,
    encode_tokens,
    system_prompt,
)
from caesura.cml.chat_quoting import quoted_message, quoted_value
from caesura.cml.markers import Symbol
from caesura.engine.model.call_grammar import call_grammar
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.data_tokens import MARKER_TOKENS, DataTokens, StreamDecoder
from caesura.errors import ConfigurationError
from caesura.session.calling import DecodedMonitor, StreamMonitor
from caesura.session.records import Message

logger = init_logger(__name__)

TEMPLATE_VARIABLE = "function_calling"
"""What tells a chat template the mode."""

_CALL_STOPS = {
    Mode.SYNC: CallStop.EACH,
    Mode.SYNC_PARALLEL: CallStop.BUNDLE,
    Mode.ASYNC: CallStop.NEVER,
}
_QUESTION: Message = {"role": "user", "content": "."}


class CmlFormat:
    """How one model reads and writes CML.

    A model that was trained for it has the five markers as special tokens, and a chat template
    with the variable `function_calling`. Others are told of CML in the system prompt, and spell
    the markers.

    Args:
        chat: the model's chat format.
        limits: bounds on what the model may write.

    Attributes:
        chat: the model's chat format.
        has_marker_tokens: the markers are tokens of the model.
        vocabulary: how markers and reasoning tags are spelled.
    """

    def __init__(self, chat: ChatFormat, limits: Limits | None = None) -> None:
        self.chat = chat
        self._chats = {
            mode: chat.with_template_arguments(**{TEMPLATE_VARIABLE: mode.value}) for mode in Mode
        }
        self._limits = limits or Limits()
        special = _special_tokens(chat)
        markers = {marker: special.get(marker.value) for marker in Marker}
        self.has_marker_tokens = None not in markers.values()
        tags = ReasoningTags()
        edges = _added_tokens(chat, (tags.opening, tags.closing))
        self.vocabulary = Vocabulary(tags if edges else None)
        self._token_ids: dict[Symbol, int] = {}
        if self.has_marker_tokens:
            self._token_ids = {
                marker: token for marker, token in markers.items() if token is not None
            }
            if edges:
                self._token_ids |= dict(zip(ReasoningEdge, edges, strict=True))
        self._data = DataTokens(chat.tokenizer)
        self._starts_reasoning: bool | None = None  # not known before a prompt is rendered

    def interrupts(self, interrupts: Sequence[Interrupt]) -> list[int]:
        """See `Codec.interrupts`.

        Raises:
            ConfigurationError: the tokenizer makes markers of text, whatever it is told.
        """
        if self.has_marker_tokens:
            return encode_tokens(interrupts, self._token_ids, self._data.encode, self.vocabulary)
        return self._data.encode(encode_text(interrupts, self.vocabulary))

    def monitor(
        self,
        tools: KnownTools | None,
        used_ids: Iterable[str],
        state: State | None = None,
        before: Sequence[int] = (),
    ) -> StreamMonitor:
        """See `Codec.monitor`."""
        settings = MonitorSettings(tools, self._limits, self.vocabulary, self.starts_reasoning)
        decode = StreamDecoder(self.chat.tokenizer)
        reader: TokenMonitor | TextMonitor
        monitor: StreamMonitor
        if self.has_marker_tokens:
            monitor = reader = TokenMonitor(settings, self._token_ids, decode, used_ids)
        else:
            reader = TextMonitor(settings, used_ids)
            monitor = DecodedMonitor(reader, decode)
        if state is None:
            return monitor
        monitor.end_of_stream()  # a turn that has begun may have left its reasoning block
        if state is State.REASONING and self.vocabulary.reasoning is not None:
            monitor.feed(self.chat.encode(self.vocabulary.reasoning.opening))
        reader.go_on_behind(decode(before[-MARKER_TOKENS:], final=False))  # holds half a character
        return monitor

    def frame_rules(self, mode: Mode) -> FrameRules | TextRules:
        """See `Codec.frame_rules`."""
        if not self.has_marker_tokens:
            return TextRules(
                _CALL_STOPS[mode],
                reasoning=self.vocabulary.reasoning,
                in_reasoning=self.starts_reasoning,
            )
        tokens = self._token_ids
        reasoning = None
        if ReasoningEdge.OPENING in tokens:
            reasoning = (tokens[ReasoningEdge.OPENING], tokens[ReasoningEdge.CLOSING])
        return FrameRules(
            call=tokens[Marker.CALL],
            trap=tokens[Marker.TRAP],
            head=tokens[Marker.HEAD],
            end=tokens[Marker.END],
            interrupt=tokens[Marker.INTR],
            calls=_CALL_STOPS[mode],
            reasoning=reasoning,
            in_reasoning=self.starts_reasoning,
        )

    def grammar(self, tools: Sequence[Mapping[str, JsonValue]], mode: Mode) -> str | None:
        """A grammar by which every call that is begun is one of these tools', with arguments that
        fit; None if there is none: without tools or marker tokens, with reasoning blocks, or with
        parameters that cannot be enforced."""
        rules = self.frame_rules(mode)
        if not tools or isinstance(rules, TextRules) or self.vocabulary.reasoning is not None:
            return None
        schemas = {_name(tool): _description(tool, {}).parameters for tool in tools}
        try:
            return _grammar(rules, json.dumps(schemas))
        except ConfigurationError as error:
            logger.warning("calls are not constrained: %s", error)
            return None

    @property
    def starts_reasoning(self) -> bool:
        """Whether the chat template begins each answer inside a reasoning block."""
        if self._starts_reasoning is None:
            reasoning = self.vocabulary.reasoning
            prompt = self.chat.prompt([_QUESTION], ()) if reasoning is not None else []
            opening = self.chat.encode(reasoning.opening) if reasoning is not None else [-1]
            blank = {token for token in prompt if not self.chat.tokenizer.decode([token]).strip()}
            spoken = [token for token in prompt if token not in blank]
            self._starts_reasoning = spoken[-len(opening) :] == opening
        return self._starts_reasoning

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, JsonValue]],
        mode: Mode,
        expected_seconds: Mapping[str, float] | None = None,
    ) -> list[int]:
        """Tokens of a conversation, up to where the model answers.

        Args:
            messages: the conversation; markers in them are quoted, except in system messages.
            tools: definitions of the tools that may be called, as OpenAI writes them.
            mode: what happens at a call.
            expected_seconds: how long tools take, by name. The model is told, longest first.

        Raises:
            ValueError: the chat template refuses the messages; says why.
        """
        expected = expected_seconds or {}
        ordered = sorted(tools, key=lambda tool: -expected.get(_name(tool), -1.0))
        quoted = [quoted_message(message, self.vocabulary) for message in messages]
        if self.has_marker_tokens:
            definitions = [self._described(tool, expected) for tool in ordered]
            return self._chats[mode].prompt(quoted, definitions)
        plain = self.chat.without_control_tokens(ordered)  # they go into a system message
        described = [_description(tool, expected) for tool in plain]
        told = system_prompt(mode, described, self._limits, self.vocabulary)
        return self._chats[mode].prompt(_with_system_prompt(told, quoted), ())

    def append(
        self, transcript: Sequence[int], messages: Sequence[Message], mode: Mode
    ) -> list[int]:
        """Tokens of more messages after the model's turn, up to where it answers.

        Args:
            transcript: all tokens so far; it ends in the model's turn.
            messages: what follows; markers in them are quoted.
            mode: what happens at a call.
        """
        quoted = [quoted_message(message, self.vocabulary) for message in messages]
        return self._chats[mode].append(transcript, quoted)

    def _described(
        self, tool: Mapping[str, JsonValue], expected: Mapping[str, float]
    ) -> dict[str, JsonValue]:
        """The definition, whose description says how long the tool takes."""
        definition: dict[str, JsonValue] = quoted_value(tool, self.vocabulary)
        function = definition.get("function")
        seconds = expected.get(_name(tool))
        if seconds is None or not isinstance(function, dict):
            return definition
        sentences = [str(function.get("description") or ""), duration_sentence(seconds)]
        return definition | {
            "function": function | {"description": " ".join(filter(None, sentences))}
        }


@lru_cache(maxsize=64)
def _grammar(rules: FrameRules, schemas: str) -> str:
    """The schemas, as JSON, are checked each by itself, and all of a session's turns have them."""
    return call_grammar(rules, json.loads(schemas))


def _special_tokens(chat: ChatFormat) -> dict[str, int]:
    return {
        token.content: token_id
        for token_id, token in chat.tokenizer.added_tokens_decoder.items()
        if token.special
    }


def _added_tokens(chat: ChatFormat, texts: Sequence[str]) -> list[int] | None:
    """The tokens of these texts, special or not; None unless each has one."""
    known = chat.tokenizer.get_added_vocab()
    return [known[text] for text in texts] if all(text in known for text in texts) else None


def _name(tool: Mapping[str, JsonValue]) -> str:
    function = tool.get("function")
    return str(function.get("name")) if isinstance(function, dict) else ""


def _description(tool: Mapping[str, JsonValue], expected: Mapping[str, float]) -> ToolDescription:
    function = tool.get("function")
    details = function if isinstance(function, dict) else {}
    parameters = details.get("parameters")
    return ToolDescription(
        _name(tool),
        str(details.get("description") or ""),
        dict(parameters) if isinstance(parameters, dict) else {},
        expected.get(_name(tool)),
    )


def _with_system_prompt(told: str, messages: Sequence[Message]) -> list[Message]:
    """The messages after what the model is told of CML."""
    first = messages[0] if messages else {}
    if first.get("role") != "system" or not isinstance(first.get("content"), str):
        return [{"role": "system", "content": told}, *messages]
    return [first | {"content": f"{told}\n\n{first['content']}"}, *messages[1:]]
