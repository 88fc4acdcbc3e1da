"""vLLM's tool parser for models trained for CML: clients with own tools see OpenAI's calls.

`caesura serve MODEL --enable-auto-tool-choice --tool-call-parser caesura_cml`; with `vllm serve`
add `--tool-parser-plugin caesura.engine.model.cml_tool_parser`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    ExtractedToolCallInformation,
    FunctionCall,
    ToolCall,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.logger import init_logger
from vllm.renderers.chat_utils import make_tool_call_id
from vllm.tokenizers import TokenizerLike
from vllm.tool_parsers.abstract_tool_parser import Tool, ToolParser, ToolParserManager

from caesura.cml import (
    ALL_SYMBOLS,
    Call,
    Channel,
    FireAndForget,
    Marker,
    Mode,
    MonitorSettings,
    ProtocolError,
    State,
    Text,
    unescape,
)
from caesura.cml.machine import FrameMachine
from caesura.engine.protocol import CML_PARSER

logger = init_logger(__name__)


class CmlToolParser(ToolParser):
    """Calls in CML as OpenAI's tool calls, with their ids; traps vanish, text is unescaped.

    The turn ends where the client has to act: at a trap, in mode `sync` also at each call, and at
    the end of the sequence.

    Raises:
        ValueError: the model was not trained for CML.
    """

    supports_required_and_named = False  # calls are found where the model writes them
    engine_based_streaming = True  # what is held back is asked for at the end

    def __init__(self, tokenizer: TokenizerLike, tools: list[Tool] | None = None) -> None:
        super().__init__(tokenizer, tools)
        if missing := [marker.value for marker in Marker if marker.value not in self.vocab]:
            raise ValueError(
                f"this model has no tokens for {', '.join(missing)}: {CML_PARSER} is for models "
                "trained for CML; use the parser of the model's own format"
            )
        self._reader = _Reader()

    def adjust_request(self, request: Any) -> Any:
        """See to it that markers are not skipped, that the turn ends where it has to, and that
        the model writes no interrupt.

        vLLM's requests to /v1/responses cannot name what is not to be written: one that the model
        writes there is dropped by the reader.
        """
        request = super().adjust_request(request)
        request.skip_special_tokens = False
        if hasattr(request, "bad_words"):  # a bias would be refused where vLLM speculates
            request.bad_words = [*request.bad_words, Marker.INTR.value]
        if request.tools and request.tool_choice != "none" and hasattr(request, "stop_token_ids"):
            stops = [self.vocab[marker.value] for marker in _stops(request)]
            request.stop_token_ids = [*(request.stop_token_ids or ()), *stops]
        return request

    def extract_tool_calls(
        self, model_output: str, request: ChatCompletionRequest
    ) -> ExtractedToolCallInformation:
        """Calls and text of a complete output."""
        reader = _Reader()
        pieces = [*reader.feed(model_output), *reader.finish()]
        calls = [_tool_call(piece) for piece in pieces if not isinstance(piece, Text)]
        content = "".join(piece.text for piece in pieces if isinstance(piece, Text))
        return ExtractedToolCallInformation(
            tools_called=bool(calls) or content != model_output,
            tool_calls=calls,
            content=content or None,
        )

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: ChatCompletionRequest,
    ) -> DeltaMessage | None:
        """What a piece of an output adds. A call is reported as a whole, once its body ends."""
        return self._delta(self._reader.feed(delta_text))

    def finish_streaming(self) -> DeltaMessage | None:
        """What was held back until the output's end."""
        return self._delta(self._reader.finish())

    def _delta(self, pieces: Iterable["_Piece"]) -> DeltaMessage | None:
        content, reasoning = "", ""
        calls: list[DeltaToolCall] = []
        for piece in pieces:
            if isinstance(piece, Text):
                if piece.channel is Channel.REASONING:
                    reasoning += piece.text
                else:
                    content += piece.text
                continue
            call = _tool_call(piece)
            arguments = call.function.arguments
            function = DeltaFunctionCall(name=call.function.name, arguments=arguments)
            index = len(self.prev_tool_call_arr)
            calls.append(DeltaToolCall(index=index, type="function", id=call.id, function=function))
            # vLLM looks here for what it has to add at the end.
            self.prev_tool_call_arr.append({"name": call.function.name, "arguments": arguments})
            self.streamed_args_for_tool.append(arguments)
        if not (content or reasoning or calls):
            return None
        return DeltaMessage(content=content or None, reasoning=reasoning or None, tool_calls=calls)


_Piece = Text | Call | FireAndForget
_OPENINGS = (Marker.CALL.value, Marker.TRAP.value)


_PARTS = re.compile(r"[^\]}]*[\]}]|[^\]}]+")
"""Up to each bracket and brace: a marker or a body may be complete there."""

_SYMBOLS = {symbol.value: symbol for symbol in ALL_SYMBOLS}
_SYMBOL = re.compile(f"({'|'.join(map(re.escape, _SYMBOLS))})")
_BEGINNINGS = [text[:end] for text in _SYMBOLS for end in range(1, len(text))]
_BEGUN = re.compile(rf"(?:{'|'.join(map(re.escape, _BEGINNINGS))})\Z")


class _Reader:
    """Reads one output in pieces, by the spelling of its markers: vLLM gives parsers text.

    A stop token has no text: a call whose body is complete counts without its `[END]`, too.
    """

    def __init__(self) -> None:
        self._machine = FrameMachine(MonitorSettings(), ALL_SYMBOLS)
        self._held = ""  # may be the beginning of a symbol
        self._written = ""  # of the open frame
        self._body_start = 0
        self._body_end = _ObjectEnd()
        self._put_in: _PutIn | None = None  # what the model may still write itself

    def feed(self, text: str) -> list[_Piece]:
        """Take the next piece."""
        pieces: list[_Piece] = []
        for part in _PARTS.findall(text):
            rest = part if self._put_in is None else self._put_in.text_behind(part)
            if rest is None:
                continue
            self._put_in = None
            for segment in self._segments(rest):
                pieces += self._take(segment)
                if self._is_complete(segment):
                    pieces += self._take(Marker.END.value)
                    self._put_in = _PutIn()
        return pieces

    def finish(self) -> list[_Piece]:
        """End the output. An open frame is shown as the model wrote it."""
        pieces = self._take(self._held if self._put_in is None else self._put_in.half)
        is_call = self._machine.state in (State.CALL, State.BODY)
        events = self._machine.end_of_stream()
        pieces += [event for event in events if isinstance(event, Text)]
        return [*pieces, Text(self._written)] if is_call else pieces

    def _segments(self, text: str) -> list[str]:
        """The symbols that are complete, and the text between them."""
        *segments, rest = _SYMBOL.split(self._held + text)
        begun = _BEGUN.search(rest)
        end = len(rest) if begun is None else begun.start()
        self._held = rest[end:]
        return [segment for segment in (*segments, rest[:end]) if segment]

    def _take(self, segment: str) -> list[_Piece]:
        """Take a symbol, or text without one."""
        symbol = _SYMBOLS.get(segment)
        machine = self._machine
        events = machine.text(segment) if symbol is None else machine.symbol(symbol)
        opens = symbol in (Marker.CALL, Marker.TRAP) and machine.in_frame
        frame = self._written if opens else self._written + segment
        self._written = segment if opens else frame if machine.in_frame else ""
        if opens or (symbol is Marker.HEAD and machine.state is State.BODY):
            self._body_start = len(self._written)
            self._body_end = _ObjectEnd()
        pieces: list[_Piece] = []
        for event in events:
            match event:
                case Text() | Call() | FireAndForget():
                    pieces.append(event)
                case ProtocolError():
                    logger.warning("a frame of CML is shown as text: %s", event.message)
                    pieces.append(Text(frame if frame.startswith(_OPENINGS) else ""))
                case _:
                    pass
        return pieces

    def _is_complete(self, text: str) -> bool:
        """Whether the open frame is a call with all of its body; `text` is the last of it."""
        if self._machine.state not in (State.BODY, State.CALL):
            return False
        if len(self._written) == self._body_start or not self._body_end.feed(text):
            return False
        try:
            return isinstance(json.loads(unescape(self._written[self._body_start :])), dict)
        except (ValueError, RecursionError):
            return False


class _PutIn:
    """An `[END]` that was put in, and that the model may write behind it, white space included.

    Attributes:
        half: what may be the beginning of it.
    """

    def __init__(self) -> None:
        self._blanks: list[str] = []
        self.half = ""

    def text_behind(self, text: str) -> str | None:
        """Take the next part: the text that is not of it, None as long as that is not certain."""
        if not self.half:
            stripped = text.lstrip()
            self._blanks.append(text[: len(text) - len(stripped)])
            text = stripped
        self.half += text
        if self.half == Marker.END.value:
            return ""
        if Marker.END.value.startswith(self.half):
            return None
        return "".join(self._blanks) + self.half


class _ObjectEnd:
    """Finds where the first JSON object ends in a text that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self._is_over = False

    def feed(self, text: str) -> bool:
        """Take the next piece; whether the object, if it is one, ends in it."""
        was_over = self._is_over
        for character in text:
            if self._is_escaped:
                self._is_escaped = False
            elif character == '"':
                self._in_string = not self._in_string
            elif self._in_string:
                self._is_escaped = character == "\\"
            elif character in "{}":
                self._depth += 1 if character == "{" else -1
                self._is_over |= self._depth <= 0
        return self._is_over and not was_over


def _stops(request: Any) -> list[Marker]:
    """The markers that end a turn whose calls the client runs."""
    arguments = getattr(request, "chat_template_kwargs", None) or {}
    mode = arguments.get("function_calling", Mode.SYNC)
    one_by_one = mode == Mode.SYNC or request.parallel_tool_calls is False
    return [Marker.TRAP, Marker.END] if one_by_one else [Marker.TRAP]


def _tool_call(call: Call | FireAndForget) -> ToolCall:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return ToolCall(
        id=call.id if isinstance(call, Call) else make_tool_call_id(),
        type="function",
        function=FunctionCall(name=call.name, arguments=arguments),
    )


ToolParserManager.register_module(name=CML_PARSER, module=CmlToolParser)
