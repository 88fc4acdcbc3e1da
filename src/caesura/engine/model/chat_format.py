"""A model's chat format: messages to tokens by its template, and back by vLLM's parsers."""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast
from vllm.config import ModelConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMValidationError
from vllm.logger import init_logger
from vllm.parser.abstract_parser import Parser
from vllm.renderers.chat_utils import parse_chat_messages
from vllm.renderers.hf import resolve_chat_template_content_format, safe_apply_chat_template

from caesura.engine.model.text_around_calls import with_text_around_calls
from caesura.errors import ConfigurationError
from caesura.session.dialogue import Output, OutputPart, OutputReader, WrittenCall
from caesura.session.protocol import SamplingDefaults
from caesura.session.records import Message

logger = init_logger(__name__)

_SENTINEL = f"caesura{secrets.token_hex(12)}"  # in no message: nobody is told it
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MARKUP = re.compile(r"<.*>|\[.*\]", re.DOTALL)
_BREAK = "\N{ZERO WIDTH SPACE}"
_LONGEST_MARKUP = 256  # no control token is longer


class ChatFormat:
    """`session.Dialogue` for a model of Hugging Face's chat format.

    Args:
        model_config: of the served model.
        tokenizer: its tokenizer.
        parser: vLLM's parser for its reasoning and tool calls; None if none is configured.
        chat_template: the server's, where it is not the model's own.
        template_arguments: further arguments of the template.
        sampling: how the model is sampled where nobody says.

    Raises:
        ConfigurationError: the tokenizer is none of Hugging Face's.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        tokenizer: Any,
        parser: type[Parser] | None,
        chat_template: str | None = None,
        template_arguments: dict[str, Any] | None = None,
        sampling: SamplingDefaults | None = None,
    ) -> None:
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ConfigurationError(
                f"sessions need a model with a (fast) Hugging Face tokenizer, not a "
                f"{type(tokenizer).__name__}; /v1/chat/completions serves others too"
            )
        self._model_config = model_config
        self._tokenizer = tokenizer
        self._parser = with_text_around_calls(parser)
        self._chat_template = chat_template
        self._template_arguments = template_arguments or {}
        self._ends = _turn_ends(model_config, tokenizer)
        self._markup = _markup(tokenizer)
        self._normalized = _normalization(tokenizer)
        self._break = _BREAK
        if self._normalized is not None and _BREAK not in self._normalized(f"a{_BREAK}a"):
            self._break = " "
        self.max_context_tokens = int(model_config.max_model_len)
        self.sampling = sampling or SamplingDefaults()
        # Of its own, and without settings that anybody changes: callers use threads, and a short
        # text must not wait for a long one.
        self._texts = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._texts.no_truncation()
        self._one_call_per_turn: bool | None = None  # not known before there are several

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The model's tokenizer, not to be used by several threads at once."""
        return self._tokenizer

    def with_template_arguments(self, **arguments: Any) -> "ChatFormat":
        """The same format with further arguments of the template."""
        return ChatFormat(
            self._model_config,
            self._tokenizer,
            self._parser,
            self._chat_template,
            {**self._template_arguments, **arguments},
            self.sampling,
        )

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[dict[str, JsonValue]]
    ) -> list[int]:
        """See `Dialogue.prompt`."""
        plain = [self._defused(message) for message in messages]
        return self.encode(self._render(plain, self.without_control_tokens(list(tools))))

    def append(self, transcript: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """See `Dialogue.append`.

        The messages are rendered after a turn that ends in a sentinel, and what follows the
        sentinel's end of turn is taken.
        """
        plain = [self._defused(message) for message in messages]
        names = [str(message.get("name")) for message in plain if message["role"] == "tool"]
        _, found, after = self._render_after_calls(names, plain).rpartition(_SENTINEL)
        token_ids = self.encode(after)
        ends = [index for index, token in enumerate(token_ids) if token in self._ends]
        if not found or not ends:
            raise ValueError("this model's chat template does not mark where a turn ends")
        complete = bool(transcript) and transcript[-1] in self._ends
        return token_ids[ends[0] + 1 if complete else ends[0] :]

    def _render_after_calls(self, names: Sequence[str], messages: Sequence[Message]) -> str:
        """The messages after a turn that calls these tools.

        Some templates know one call per turn only, and do not bind results to calls.
        """
        if len(names) > 1 and self._one_call_per_turn is None:
            try:
                self._render([_USER, _turn(names)], ())
            except ValueError:
                self._one_call_per_turn = True
            else:
                self._one_call_per_turn = False
        shown = names[:1] if self._one_call_per_turn else names
        return self._render([_USER, _turn(shown), *messages], ())

    def reader(
        self, transcript: Sequence[int], tools: Sequence[dict[str, JsonValue]]
    ) -> OutputReader:
        """See `Dialogue.reader`."""
        request = ChatCompletionRequest(
            messages=[],
            model="",
            tools=list(tools) or None,
            tool_choice="auto" if tools else "none",
        )
        streaming, complete = self._make_parser(request), self._make_parser(request)
        return _Reader(self._tokenizer, request, streaming, complete, transcript, self._ends)

    def _make_parser(self, request: ChatCompletionRequest) -> Parser | None:
        if self._parser is None:
            return None
        return self._parser(
            self._tokenizer,
            request.tools,
            chat_template_kwargs=self._template_arguments,
            model_config=self._model_config,
        )

    def _render(self, messages: Sequence[Message], tools: Sequence[dict[str, JsonValue]]) -> str:
        definitions = [dict(tool) for tool in tools] or None
        content_format = resolve_chat_template_content_format(
            chat_template=self._chat_template,
            tools=definitions,
            given_format="auto",
            tokenizer=self._tokenizer,
            model_config=self._model_config,
        )
        try:
            conversation, media, _ = parse_chat_messages(
                [_named_as_vllm_reads_it(message) for message in messages],
                self._model_config,
                content_format,
            )
            if media:
                raise ValueError("sessions take text only, no images, audio or video")
            rendered = safe_apply_chat_template(
                self._model_config,
                self._tokenizer,
                conversation,
                tools=definitions,
                chat_template=self._chat_template,
                tokenize=False,
                add_generation_prompt=True,
                **self._template_arguments,
            )
        except (VLLMValidationError, KeyError, TypeError) as error:
            raise ValueError(f"the chat template refuses the messages: {error}") from error
        return str(rendered)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text in which control tokens are what they are."""
        return list(self._texts.encode(text, add_special_tokens=False).ids)

    def _defused(self, message: Message) -> Message:
        """The message without control tokens, if it is not the server's or the model's own."""
        if message.get("role") not in ("user", "tool"):
            return message
        content, name = message.get("content"), message.get("name")
        if isinstance(name, str) and not _TOOL_NAME.fullmatch(name):
            message = message | {"name": "unknown"}  # the model may have written anything
        if isinstance(content, str):
            return message | {"content": self._without_markup(content)}
        if isinstance(content, list):
            return message | {"content": self._defused_parts(content)}
        return message

    def _defused_parts(self, parts: Sequence[JsonValue]) -> list[JsonValue]:
        """Parts of a content, which templates may join."""
        defused: list[JsonValue] = []
        before = ""
        for part in parts:
            if isinstance(part, dict) and isinstance(text := part.get("text"), str):
                text = self._without_markup(text)
                if self._markup.search(before + text[:_LONGEST_MARKUP]):
                    text = self._break + text
                before = (before + text)[-_LONGEST_MARKUP:]
                part = part | {"text": text}
            defused.append(part)
        return defused

    def without_control_tokens(self, value: Any) -> Any:
        """JSON such as a tool's definition in which no text, names included, is a control token."""
        if isinstance(value, str):
            return self._without_markup(value)
        if isinstance(value, Mapping):
            return {
                self._without_markup(str(key)): self.without_control_tokens(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.without_control_tokens(item) for item in value]
        return value

    def _without_markup(self, text: str) -> str:
        plain = self._broken(text)
        if self._normalized is not None:
            read = self._normalized(plain)
            if self._markup.search(read):  # what looks like a control token becomes one
                return self._broken(read)
        return plain

    def _broken(self, text: str) -> str:
        return self._markup.sub(lambda found: found[0][0] + self._break + found[0][1:], text)


class _Reader:
    """`session.OutputReader` on vLLM's parsers."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        request: ChatCompletionRequest,
        streaming: Parser | None,
        complete: Parser | None,
        transcript: Sequence[int],
        ends: frozenset[int],
    ) -> None:
        self._tokenizer = tokenizer._tokenizer
        self._decode = DecodeStream(skip_special_tokens=False)
        self._request = request
        self._streaming = streaming
        self._complete = complete
        self._prompt: list[int] | None = list(transcript)
        self._ends = ends
        self._token_ids: list[int] = []
        self._text = ""
        self.inside_call = False

    def feed(self, token_ids: Sequence[int]) -> OutputPart:
        """See `OutputReader.feed`."""
        text, taken = "", []
        for token in token_ids:
            if token not in self._ends:
                taken.append(token)
                text += self._decode.step(self._tokenizer, token) or ""
        self._token_ids += taken
        self._text += text
        if not text:
            return OutputPart()
        if self._streaming is None:
            return OutputPart(text)
        try:
            delta = self._streaming.parse_delta(
                text, taken, self._request, self._prompt, finished=False
            )
        except Exception:  # parsers are model-specific code; a session must not depend on them
            logger.exception("the parser failed on a piece of an output; it is shown as it is")
            self._streaming = None
            return OutputPart(text)
        self._prompt = None
        if delta is None:
            self.inside_call = True  # held back: it may be the beginning of a call
            return OutputPart()
        self.inside_call = bool(delta.tool_calls)
        return OutputPart(delta.content or "", delta.reasoning or "")

    def finish(self) -> Output:
        """See `OutputReader.finish`."""
        if self._complete is None:
            return Output(self._text, "", ())
        try:
            reasoning, text, calls = self._complete.parse(
                self._text,
                self._request,
                enable_auto_tools=True,
                model_output_token_ids=self._token_ids,
            )
        except Exception:
            logger.exception("the parser failed on an output; it is taken as text")
            return Output(self._text, "", ())
        written = tuple(WrittenCall(call.name, call.arguments) for call in calls or ())
        return Output(text or "", reasoning or "", written)


def _named_as_vllm_reads_it(message: Message) -> dict[str, Any]:
    """Clients have two names for reasoning, and vLLM renames it on its routes only."""
    named: dict[str, Any] = dict(message)
    thought = named.pop("reasoning_content", None)
    if thought is not None and named.get("reasoning") is None:
        named["reasoning"] = thought
    return named


_USER: Message = {"role": "user", "content": "."}


def _turn(names: Sequence[str]) -> Message:
    """A turn of the model that ends in the sentinel, whether the template shows calls or text."""
    if not names:
        return {"role": "assistant", "content": _SENTINEL}
    calls: list[JsonValue] = [
        {
            "id": f"call{index:05}",
            "type": "function",
            "function": {"name": name, "arguments": f'{{"_": "{_SENTINEL}"}}'},
        }
        for index, name in enumerate(names)
    ]
    return {"role": "assistant", "content": _SENTINEL, "tool_calls": calls}


def _turn_ends(model_config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Tokens that end the model's turn."""
    configured = model_config.try_get_generation_config().get("eos_token_id")
    ends = configured if isinstance(configured, list) else [configured]
    return frozenset(end for end in (*ends, tokenizer.eos_token_id) if isinstance(end, int))


def _normalization(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], str] | None:
    """How a text is changed before control tokens are looked for; None if it is not."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    added = tokenizer.added_tokens_decoder.values()
    if normalizer is None or not any(token.normalized for token in added):
        return None
    normalize: Callable[[str], str] = normalizer.normalize_str
    return normalize


def _markup(tokenizer: PreTrainedTokenizerFast) -> "re.Pattern[str]":
    """Finds the texts of control tokens and of tags such as `<tool_response>`."""
    texts = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if len(token.content) > 1 and (token.special or _MARKUP.fullmatch(token.content))
    }
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
