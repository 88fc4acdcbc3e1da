"""vLLM's parsers, with the text between and behind calls, which many of them leave out."""

from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.parser.abstract_parser import DelegatingParser, Parser

_MARKERS = ("tool_call_start_token", "tool_call_end_token", "tool_calls_end_token")


def with_text_around_calls(parser: type[Parser] | None) -> type[Parser] | None:
    """The same parser; one whose markers are not known stays as it is.

    A model's context has all that it wrote, so its client is to see all of it, too.
    """
    if parser is None or not issubclass(parser, DelegatingParser):
        return parser
    return parser if issubclass(parser, _Whole) else type(parser.__name__, (_Whole, parser), {})


class Around:
    """Finds the text of an output that is outside of its calls, from the first call on.

    White space is part of it only if text follows.

    Args:
        begins: the marker that opens a call.
        ends: the marker that closes it.
        all_end: the marker that closes all calls, if there is one.
    """

    def __init__(self, begins: str, ends: str, all_end: str | None = None) -> None:
        self.begins, self._ends = begins, ends
        self._all_end = all_end or ends
        self._held = ""  # may be the beginning of a marker
        self._blanks = ""
        self._has_begun = False
        self._is_inside = False

    def feed(self, text: str) -> str:
        """Take the next piece; what is certain of the text outside."""
        self._held += text
        outside = ""
        while (found := self._next_marker()) is not None:
            before, marker = found
            if not self._is_inside and self._has_begun:
                outside += before
            self._has_begun |= marker == self.begins
            self._is_inside = marker == self.begins or (
                self._is_inside and marker not in (self._ends, self._all_end)
            )
        keep = self._partial()
        if not self._is_inside and self._has_begun:
            outside += self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return self._without_last_blanks(outside)

    def finish(self) -> str:
        """What was held back: it was no marker."""
        held, self._held = self._held, ""
        return self._without_last_blanks("" if self._is_inside or not self._has_begun else held)

    def _next_marker(self) -> tuple[str, str] | None:
        """The text before the next marker, and the marker; both are taken."""
        markers = {self._ends} if self._is_inside else {self.begins, self._ends, self._all_end}
        places = [(place, m) for m in markers if (place := self._held.find(m)) >= 0]
        if not places:
            return None
        place, marker = min(places)
        before, self._held = self._held[:place], self._held[place + len(marker) :]
        return before, marker

    def _partial(self) -> int:
        """How many of the last characters may be the beginning of a marker."""
        longest = max(len(m) for m in (self.begins, self._ends, self._all_end)) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(m.startswith(end) for m in (self.begins, self._ends, self._all_end)):
                return length
        return 0

    def _without_last_blanks(self, text: str) -> str:
        text = self._blanks + text
        said = text.rstrip()
        self._blanks = text[len(said) :]
        return said


class _Whole(DelegatingParser):
    """Put before a parser's class: adds what that leaves out."""

    _around: Around | None = None
    _looked = False

    def extract_tool_calls(self, model_output: str, request: Any) -> Any:
        """As vLLM's, of a complete output."""
        found = super().extract_tool_calls(model_output, request)
        around = self._new_around()
        if around is not None and found.tools_called:
            before, content = model_output.partition(around.begins)[0], found.content or ""
            if content.strip() == before.strip():  # else the parser has its own way with the rest
                found.content = content + around.feed(model_output) + around.finish() or None
        return found

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: Any,
    ) -> DeltaMessage | None:
        """As vLLM's, of a piece of an output."""
        delta = super().extract_tool_calls_streaming(
            previous_text,
            current_text,
            delta_text,
            previous_token_ids,
            current_token_ids,
            delta_token_ids,
            request,
        )
        if not self._looked:
            self._looked, self._around = True, self._new_around()
        return delta if self._around is None else _with(delta, self._around.feed(delta_text))

    def finalize_generation(self, delta_message: Any, request: Any, state: Any) -> Any:
        """As vLLM's, at the end of an output that came in pieces."""
        delta = super().finalize_generation(delta_message, request, state)
        return delta if self._around is None else _with(delta, self._around.finish())

    def _new_around(self) -> Around | None:
        begins, ends, all_end = (getattr(self._tool_parser, name, None) for name in _MARKERS)
        return Around(begins, ends, all_end) if begins and ends else None


def _with(delta: DeltaMessage | None, text: str) -> DeltaMessage | None:
    """A piece of a message with more text."""
    if not text or (delta is not None and (delta.content or "").endswith(text)):
        return delta
    delta = delta or DeltaMessage()
    delta.content = (delta.content or "") + text
    return delta
