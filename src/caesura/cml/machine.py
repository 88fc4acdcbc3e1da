"""The state machine of a generated stream, above tokens and text.

It takes symbols and the text between them, and reports what is complete. Every stream has a
meaning: a mistake in the grammar is reported as a `ProtocolError`, and raises nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from caesura.cml.body import KnownTools, read_body
from caesura.cml.escaping import Unescaper, unescape
from caesura.cml.faults import ErrorKind, ProtocolError, excerpt
from caesura.cml.frames import Call, Channel, FireAndForget, Limits, Text, Trap
from caesura.cml.grammar import IN_FRAME, LISTENS_FOR, State, next_state
from caesura.cml.ids import CallIds
from caesura.cml.markers import Marker, ReasoningEdge, Symbol, Symbols
from caesura.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """The model ended its turn."""


Event = Text | Call | FireAndForget | Trap | ProtocolError | EndOfStream


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What a monitor must know about the model and the session.

    Attributes:
        tools: the tools that can be called; None accepts any tool and any arguments.
        limits: bounds on what the model may write.
        starts_reasoning: a turn begins inside a reasoning block, as the prompt opens it.
    """

    tools: KnownTools | None = None
    limits: Limits = field(default_factory=Limits)
    starts_reasoning: bool = False


@dataclass(slots=True)
class _OpenFrame:
    """An open frame. If it has several mistakes, the first is reported, at its end."""

    parts: list[str] = field(default_factory=list)
    characters: int = 0
    call_id: str | None = None
    error: ProtocolError | None = None

    @property
    def content(self) -> str:
        return "".join(self.parts)

    def blame(self, error: ProtocolError) -> ProtocolError:
        """Note a mistake; the first one of the frame."""
        if self.error is None:
            self.error = replace(error, call_id=self.call_id)
        return self.error


class FrameMachine:
    """The monitor's core: one session's stream, turn by turn.

    Args:
        settings: what is known about the model and the session.
        symbols: those that the model has.
        used_ids: ids of the session's calls so far.

    Attributes:
        state: where in the grammar the stream is.
        symbols: those that the model has.

    Raises:
        ConfigurationError: turns begin in a reasoning block, and no symbol ends it.
    """

    def __init__(
        self, settings: MonitorSettings, symbols: Symbols, used_ids: Iterable[str] = ()
    ) -> None:
        if settings.starts_reasoning and ReasoningEdge.CLOSING not in symbols:
            raise ConfigurationError("starts_reasoning needs the model's reasoning tags")
        self.symbols = symbols
        self._tools = settings.tools
        self._limits = settings.limits
        self._first_state = State.REASONING if settings.starts_reasoning else State.TEXT
        self._ids = CallIds(settings.limits, used_ids)
        self._unescaper = Unescaper(symbols)
        self._frame = _OpenFrame()
        self.begin_turn()

    def begin_turn(self) -> None:
        """Begin a turn of the model, behind a prompt rather than an interrupt."""
        self.state = self._first_state
        self._frames_in_turn = 0

    @property
    def in_frame(self) -> bool:
        """Whether a frame is open."""
        return self.state in IN_FRAME

    def text(self, text: str) -> list[Event]:
        """Take the text that follows."""
        if not text:
            return []
        if self.state in (State.TEXT, State.REASONING):
            return self._pass_on(self._unescaper.feed(text))
        if self.state is State.SKIPPED:
            return []
        return self._collect(text)

    def symbol(self, symbol: Symbol) -> list[Event]:
        """Take the symbol that follows; it is text where the grammar has none."""
        if symbol not in LISTENS_FOR[self.state]:
            return self.text(symbol.value)
        events = self._pass_on(self._unescaper.flush())
        was, self.state = self.state, next_state(self.state, symbol)
        match symbol:
            case Marker.CALL | Marker.TRAP:
                events += self._begin_frame(was, symbol)
            case Marker.HEAD:
                events += self._head(was)
            case Marker.END:
                events += self._end(was)
            case Marker.INTR:
                # Reported at once, so that nothing behind it can be taken for a result.
                events.append(_interrupt_generated())
            case ReasoningEdge():
                pass
        return events

    def injected(self) -> list[Event]:
        """Interrupts were injected here: the text behind them does not continue the text before."""
        return self._break_off("an interrupt came inside it")

    def end_of_stream(self) -> list[Event]:
        """The model ended its turn. An interrupt may make it go on."""
        events = self._break_off("the turn ended inside it")
        self.state = State.TEXT
        return [*events, EndOfStream()]

    def _break_off(self, reason: str) -> list[Event]:
        events = self._pass_on(self._unescaper.flush())
        if self.in_frame:
            events.append(self._frame.blame(_unfinished(reason)))
        if self.state is not State.REASONING:
            self.state = State.TEXT
        return events

    def _pass_on(self, text: str) -> list[Event]:
        if not text:
            return []
        is_reasoning = self.state is State.REASONING
        return [Text(text, Channel.REASONING if is_reasoning else Channel.ANSWER)]

    def _begin_frame(self, was: State, marker: Marker) -> list[Event]:
        events: list[Event] = []
        if was in IN_FRAME:
            events.append(self._frame.blame(_unexpected(marker, "an open frame needs [END]")))
        self._frame = _OpenFrame()
        self._frames_in_turn += 1
        if self._frames_in_turn > self._limits.frames_per_turn:
            self._frame.blame(_too_many_frames(self._limits.frames_per_turn))
        return events

    def _collect(self, text: str) -> list[Event]:
        """Keep the content of a frame, up to the limit."""
        frame = self._frame
        frame.characters += len(text)
        if frame.characters > self._limits.body_characters:
            self.state = State.SKIPPED
            return [frame.blame(_too_long(self._limits.body_characters))]
        frame.parts.append(text)
        return []

    def _head(self, was: State) -> list[Event]:
        match was:
            case State.CALL:
                self._take_id()
            case State.SKIPPED:
                pass
            case State.TEXT:
                return [_unexpected(Marker.HEAD, "it stands between an id and a body")]
            case _:
                self._frame.blame(_unexpected(Marker.HEAD, "a frame has one, after an id"))
        return []

    def _take_id(self) -> None:
        frame = self._frame
        if frame.error is not None:
            return
        call_id = frame.content.strip()
        if error := self._ids.take(call_id):
            frame.blame(error)
        else:
            frame.call_id = call_id
            frame.parts.clear()

    def _end(self, was: State) -> list[Event]:
        if was is State.SKIPPED:
            return []
        if was is State.TEXT:
            return [_unexpected(Marker.END, "no frame is open")]
        if self._frame.error is not None:
            return [self._frame.error]
        return [self._trap() if was is State.TRAP else self._call()]

    def _trap(self) -> Trap | ProtocolError:
        content = self._frame.content.strip()
        return Trap() if not content else self._frame.blame(_text_in_trap(content))

    def _call(self) -> Call | FireAndForget | ProtocolError:
        frame = self._frame
        body = unescape(frame.content, self.symbols)
        invocation = read_body(body, self._limits.nesting)
        if isinstance(invocation, ProtocolError):
            return frame.blame(invocation)
        if self._tools is not None and (error := self._tools.check(invocation)):
            return frame.blame(error)
        if frame.call_id is None:
            return FireAndForget(invocation.name, invocation.arguments)
        return Call(frame.call_id, invocation.name, invocation.arguments)


def _interrupt_generated() -> ProtocolError:
    return ProtocolError(
        ErrorKind.INTERRUPT_GENERATED,
        "Interrupts are never written by you: what you wrote is not a result. "
        "Wait for results with a trap.",
    )


def _unexpected(marker: Marker, reason: str) -> ProtocolError:
    message = f"{marker.value} is not expected here: {reason}."
    return ProtocolError(ErrorKind.UNEXPECTED_MARKER, message)


def _unfinished(reason: str) -> ProtocolError:
    return ProtocolError(
        ErrorKind.UNFINISHED_FRAME,
        f"The frame has no effect: {reason}. Write it again, a call with a new id.",
    )


def _too_long(limit_characters: int) -> ProtocolError:
    return ProtocolError(
        ErrorKind.FRAME_TOO_LONG,
        f"The frame has no effect: it has more than {limit_characters} characters.",
    )


def _too_many_frames(limit: int) -> ProtocolError:
    return ProtocolError(
        ErrorKind.TOO_MANY_FRAMES, f"A turn may have {limit} calls and traps. End it."
    )


def _text_in_trap(content: str) -> ProtocolError:
    return ProtocolError(
        ErrorKind.UNEXPECTED_TEXT, f"A trap has no content, and this one has {excerpt(content)}."
    )
