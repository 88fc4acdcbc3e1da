"""A session's events as its client sees the run in OpenAI's formats."""

from dataclasses import dataclass

from caesura.session.records import Event, EventType, SessionEnding


@dataclass(frozen=True, slots=True)
class TextAdded:
    """The output goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningAdded:
    """The reasoning before an output goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class OutputDone:
    """A turn's output is complete.

    Attributes:
        continues: the answer goes on right behind it, after calls or interrupts.
    """

    text: str
    reasoning: str
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Called:
    """The model calls a tool."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A call has its result."""

    call_id: str
    name: str
    ending: str
    content: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The session is over.

    Attributes:
        ending: how.
        error: why, for people.
        cut: the last output reached its longest length, or the session a limit.
    """

    ending: SessionEnding
    error: str | None
    cut: bool


Step = TextAdded | ReasoningAdded | OutputDone | Called | Returned | RunEnded


class RunReader:
    """Reads events in order.

    The pieces of an output are not kept once it is complete, so a late reader takes the rest
    from the output itself.

    Attributes:
        output_tokens: generated so far.
    """

    def __init__(self) -> None:
        self.output_tokens = 0
        self._text = ""
        self._reasoning = ""
        self._stop = ""

    def read(self, event: Event) -> list[Step]:
        """What an event shows, in order."""
        data = event.data
        match event.type:
            case EventType.TEXT:
                return [self._text_added(str(data["text"]))]
            case EventType.REASONING:
                return [self._reasoning_added(str(data["text"]))]
            case EventType.OUTPUT:
                return self._output_done(event)
            case EventType.CALL:
                named = (str(data[name]) for name in ("call_id", "name", "arguments"))
                return [Called(*named)]
            case EventType.RESULT:
                told = (str(data[name]) for name in ("call_id", "name", "ending", "content"))
                return [Returned(*told)]
            case EventType.ENDED:
                ending = SessionEnding(str(data["ending"]))
                error = None if data["error"] is None else str(data["error"])
                cut = self._stop == "length" or ending is SessionEnding.LIMIT
                return [RunEnded(ending, error, cut)]
        return []

    def _text_added(self, text: str) -> TextAdded:
        self._text += text
        return TextAdded(text)

    def _reasoning_added(self, text: str) -> ReasoningAdded:
        self._reasoning += text
        return ReasoningAdded(text)

    def _output_done(self, event: Event) -> list[Step]:
        text, reasoning = str(event.data["text"]), str(event.data["reasoning"])
        steps: list[Step] = []
        if rest := _rest(self._reasoning, reasoning):
            steps.append(self._reasoning_added(rest))
        if rest := _rest(self._text, text):
            steps.append(self._text_added(rest))
        continues = event.data.get("continues") is True
        steps.append(OutputDone(self._text, self._reasoning, continues))
        self._text, self._reasoning = "", ""
        self._stop = str(event.data["stop"])
        self.output_tokens += int(str(event.data["output_tokens"]))
        return steps


def _rest(shown: str, complete: str) -> str:
    """What is missing; nothing where what was shown cannot be taken back."""
    return complete[len(shown) :] if complete.startswith(shown) else ""
