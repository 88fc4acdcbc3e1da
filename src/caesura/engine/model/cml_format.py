"""CML in a model's tokens: `session.CallFormat` on its tokenizer and chat template."""

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
    Marker,
    Mode,
    Monitor,
    MonitorSettings,
    ReasoningEdge,
    State,
    encode_tokens,
)
from caesura.cml.chat_quoting import quoted_message, quoted_value
from caesura.cml.markers import Symbol, Symbols, has_markers
from caesura.engine.model.call_grammar import call_grammar
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.data_tokens import MARKER_TOKENS, DataTokens, StreamDecoder
from caesura.errors import ConfigurationError
from caesura.session.calling.durations import duration_sentence
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
    with the variable `function_calling`.

    Args:
        chat: the model's chat format.

    Attributes:
        chat: the model's chat format.
        symbols: those that are tokens of the model.

    Raises:
        ConfigurationError: the model was not trained for it.
    """

    def __init__(self, chat: ChatFormat) -> None:
        if not knows_cml(chat):
            raise ConfigurationError(
                "the model was not trained for CML: its tokenizer lacks markers; use one that was "
                "trained with `caesura train`"
            )
        self.chat = chat
        self._chats = {
            mode: chat.with_template_arguments(**{TEMPLATE_VARIABLE: mode.value}) for mode in Mode
        }
        special, added = _special_tokens(chat), chat.tokenizer.get_added_vocab()
        self._token_ids: dict[Symbol, int] = {marker: special[marker.value] for marker in Marker}
        if all(edge.value in added for edge in ReasoningEdge):  # special or not
            self._token_ids |= {edge: added[edge.value] for edge in ReasoningEdge}
        self.symbols: Symbols = tuple(self._token_ids)
        self._data = DataTokens(chat.tokenizer)
        self._starts_reasoning: bool | None = None  # not known before a prompt is rendered

    def interrupts(self, interrupts: Sequence[Interrupt]) -> list[int]:
        """See `Codec.interrupts`.

        Raises:
            ConfigurationError: the tokenizer makes markers of text, whatever it is told.
        """
        return encode_tokens(interrupts, self._token_ids, self._data.encode)

    def monitor(
        self,
        tools: KnownTools | None,
        used_ids: Iterable[str],
        state: State | None = None,
        before: Sequence[int] = (),
    ) -> Monitor:
        """See `Codec.monitor`."""
        settings = MonitorSettings(tools, starts_reasoning=self.starts_reasoning)
        decode = StreamDecoder(self.chat.tokenizer)
        monitor = Monitor(settings, self._token_ids, decode, used_ids)
        if state is None:
            return monitor
        monitor.end_of_stream()  # a turn that has begun may have left its reasoning block
        if state is State.REASONING and self._has_reasoning:
            monitor.feed([self._token_ids[ReasoningEdge.OPENING]])
        monitor.go_on_behind(decode(before[-MARKER_TOKENS:], final=False))  # may hold a character
        return monitor

    def frame_rules(self, mode: Mode) -> FrameRules:
        """See `Codec.frame_rules`."""
        tokens = self._token_ids
        reasoning = None
        if self._has_reasoning:
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
        fit; None if there is none: without tools, with reasoning blocks, or with parameters that
        cannot be enforced."""
        if not tools or self._has_reasoning:
            return None
        rules = self.frame_rules(mode)
        schemas = {_name(tool): _parameters(tool) for tool in tools}
        try:
            return _grammar(rules, json.dumps(schemas))
        except ConfigurationError as error:
            logger.warning("calls are not constrained: %s", error)
            return None

    @property
    def starts_reasoning(self) -> bool:
        """Whether the chat template begins each answer inside a reasoning block."""
        if self._starts_reasoning is None:
            prompt = self.chat.prompt([_QUESTION], ()) if self._has_reasoning else []
            decode = self.chat.tokenizer.decode
            spoken = [token for token in prompt if decode([token]).strip()]
            opening = self._token_ids.get(ReasoningEdge.OPENING)
            self._starts_reasoning = bool(spoken) and spoken[-1] == opening
        return self._starts_reasoning

    @property
    def _has_reasoning(self) -> bool:
        return ReasoningEdge.OPENING in self._token_ids

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
        quoted = [quoted_message(message, self.symbols) for message in messages]
        definitions = [self._described(tool, expected) for tool in ordered]
        return self._chats[mode].prompt(quoted, definitions)

    def append(
        self, transcript: Sequence[int], messages: Sequence[Message], mode: Mode
    ) -> list[int]:
        """Tokens of more messages after the model's turn, up to where it answers.

        Args:
            transcript: all tokens so far; it ends in the model's turn.
            messages: what follows; markers in them are quoted.
            mode: what happens at a call.
        """
        quoted = [quoted_message(message, self.symbols) for message in messages]
        return self._chats[mode].append(transcript, quoted)

    def _described(
        self, tool: Mapping[str, JsonValue], expected: Mapping[str, float]
    ) -> dict[str, JsonValue]:
        """The definition, whose description says how long the tool takes."""
        definition: dict[str, JsonValue] = quoted_value(tool, self.symbols)
        function = definition.get("function")
        seconds = expected.get(_name(tool))
        if seconds is None or not isinstance(function, dict):
            return definition
        sentences = [str(function.get("description") or ""), duration_sentence(seconds)]
        return definition | {
            "function": function | {"description": " ".join(filter(None, sentences))}
        }


def knows_cml(chat: ChatFormat) -> bool:
    """Whether a model was trained for CML: the markers are special tokens of it."""
    return has_markers(_special_tokens(chat))


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


def _name(tool: Mapping[str, JsonValue]) -> str:
    function = tool.get("function")
    return str(function.get("name")) if isinstance(function, dict) else ""


def _parameters(tool: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    function = tool.get("function")
    parameters = function.get("parameters") if isinstance(function, dict) else None
    return dict(parameters) if isinstance(parameters, dict) else {}
