"""vLLM's tool parser for models trained for CML: clients with own tools see OpenAI's calls.

`caesura serve MODEL --enable-auto-tool-choice --tool-call-parser caesura_cml`; with `vllm serve`
add `--tool-parser-plugin caesura.engine.model.cml_tool_parser`.
"""

import json
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
    Call,
    Channel,
    FireAndForget,
    Marker,
    Mode,
    MonitorSettings,
    ProtocolError,
    State,
    Text,
    TextMonitor,
    unescape,
)
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
        """What a piece of an output adds. A call is told whole, as soon as its body is."""
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


class _Reader:
    """Reads one output in pieces.

    A stop token has no text: a call whose body is complete counts without its `[END]`, too.
    """

    def __init__(self) -> None:
        self._monitor = TextMonitor(MonitorSettings())
        self._written = ""  # with the open frame, if there is one
        self._ahead = ""  # of an `[END]` that was put in already, what may still come

    def feed(self, text: str) -> list[_Piece]:
        """Take the next piece."""
        text = self._without_end(text)
        pieces: list[_Piece] = []
        # Up to each closing brace: a body may be complete there.
        start = 0
        while start < len(text):
            end = text.find("}", start) + 1 or len(text)
            pieces += self._take(text[start:end])
            start = end
            if self._is_complete():
                pieces += self._take(Marker.END.value)
                rest = text[start:]
                self._ahead = Marker.END.value
                return pieces + self.feed(rest)
        return pieces

    def finish(self) -> list[_Piece]:
        """The output is over. A frame that is open is shown as it was written."""
        state = self._monitor.state
        pieces = [piece for piece in self._monitor.end_of_stream() if isinstance(piece, Text)]
        is_call = state in (State.CALL, State.BODY)
        return [*pieces, Text(self._frame())] if is_call else [*pieces]

    def _without_end(self, text: str) -> str:
        """The text without the `[END]`, white space before it included, that was put in."""
        while self._ahead and text:
            if text[0] == self._ahead[0]:
                self._ahead, text = self._ahead[1:], text[1:]
            elif text[0].isspace() and self._ahead == Marker.END.value:
                text = text[1:]
            else:
                self._ahead = ""
        return text

    def _take(self, text: str) -> list[_Piece]:
        if self._monitor.state is State.TEXT and not self._monitor.in_critical_section:
            self._written = ""
        self._written += text
        pieces: list[_Piece] = []
        for event in self._monitor.feed(text):
            match event:
                case Text() | Call() | FireAndForget():
                    pieces.append(event)
                case ProtocolError():
                    logger.warning("a frame of CML is shown as text: %s", event.message)
                    pieces.append(Text(self._frame()))
                case _:
                    pass
        return pieces

    def _frame(self) -> str:
        """The latest frame of calls and traps as it is written."""
        openings = (Marker.CALL, Marker.TRAP)
        start = max(self._written.rfind(opening.value) for opening in openings)
        return self._written[start:] if start >= 0 else ""

    def _is_complete(self) -> bool:
        """Whether the open frame is a call with all of its body."""
        if self._monitor.state not in (State.BODY, State.CALL) or not self._written.endswith("}"):
            return False
        opening = Marker.HEAD if self._monitor.state is State.BODY else Marker.CALL
        body = self._written.rpartition(opening.value)[2]
        try:
            return isinstance(json.loads(unescape(body)), dict)
        except (ValueError, RecursionError):
            return False


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
