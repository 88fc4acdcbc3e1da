"""What a session does, written to a terminal or to a file."""

from collections.abc import Sequence
from datetime import datetime

from prompt_toolkit.formatted_text import StyleAndTextTuples
from pydantic import JsonValue
from rich.cells import cell_len

from caesura.chat.page import Page
from caesura.chat.questions import advice
from caesura.chat.quoting import inline, named, question_lines, quoted
from caesura.chat.records import ApprovalView, EventKind, SessionEvent, SessionView
from caesura.chat.texts import pieces, shortened, wrapped

QUESTION_LINES = 8  # that stay on the screen
RESULT_LINES = 6
RESULT_CHARACTERS = 600
TOLD_CHARACTERS = 400  # of arguments that nobody is asked about, and of messages of tools
_PROGRESS_STEP = 0.1  # of a call: not every percent is worth a line


class Display:
    """Writes events as they come.

    Args:
        answers: where what the model says goes.
        notes: where all else goes; may be the same.
    """

    def __init__(self, answers: Page, notes: Page) -> None:
        self._answers = answers
        self._notes = notes
        self._continues = False  # the answer goes on, whatever is written meanwhile
        self._turn: object = None
        self._text = ""  # shown of this turn
        self._reasoning = ""
        self._names: dict[str, str] = {}  # of tools, by ids of their calls and questions
        self._progress: dict[str, tuple[float, str]] = {}
        self._shown: tuple[ApprovalView, int | None, list[str]] | None = None

    def show(self, event: SessionEvent) -> None:
        """Write what is worth reading of an event."""
        match event.kind:
            case EventKind.REASONING:
                self._add_reasoning(event, event.text("text"))
            case EventKind.TEXT:
                self._add_text(event, event.text("text"))
            case EventKind.OUTPUT:
                self._complete_output(event)
            case EventKind.RESTARTED:
                self._turn = None
                self.end_line()
                self.note("the server was restarted; this output begins again")
            case EventKind.CALL:
                self._call(event)
            case EventKind.TRAPPED:
                self._trapped(event)
            case EventKind.INJECTED:
                self._injected(event)
            case EventKind.PROGRESS:
                self._call_progress(event)
            case EventKind.RESULT:
                self._result(event)
            case EventKind.MESSAGE:
                self.message(event.text("role"), event.text("content"))
            case EventKind.ASKED:
                self._names[event.text("approval_id")] = named(event.text("tool"))
            case EventKind.ANSWERED:
                name = self._names.get(event.text("approval_id"))
                verb = "accepted" if event.data.get("accepted") else "refused"
                reason = event.text("reason")
                head = ": ".join(filter(None, [name, verb]))
                self._told(f"{head}:" if reason else head, reason, "dim")
            case EventKind.ENDED:
                self._ended(event)

    def message(self, role: str, content: str) -> None:
        """A message, with its role if that is not the user."""
        if role != "user":
            self._told("›", role, "bold")
        width = self._notes.width
        self._lines(quoted(content, width, "› " if role == "user" else "│ "), "bold")

    def note(self, text: str, rest: str | None = "  ") -> None:
        """Something about the session."""
        self._line(text, "dim", rest=rest)

    def error(self, text: str) -> None:
        """Something that went wrong."""
        self._told("!", text, "red")

    def question(self, approval: ApprovalView) -> None:
        """A question to a human in full, and how to answer it if the foot does not say so."""
        self._lines(self._question(approval), "yellow")
        if not self._notes.has_foot:
            self._line(advice(approval), "dim", first="  ")

    def foot(self, questions: Sequence[ApprovalView], answers: bool) -> StyleAndTextTuples:
        """What stands below all lines until it is complete or answered.

        Args:
            questions: that wait for a human, the oldest first.
            answers: what is typed is the answer to it, and no message.
        """
        page, parts, width = self._notes, StyleAndTextTuples(), self._notes.width or 1

        def add(style: str, *lines: str) -> None:
            for piece in (piece for line in lines for piece in pieces(line, width)):
                # With a space, without which a combining character at the end is drawn twice.
                parts.append((style, f"{piece} \n"))

        if page.open_line:
            add(page.open_style, page.open_line.rstrip())
        if questions:
            lines, how = self._question(questions[0]), advice(questions[0])
            if len(questions) > 1:
                how += f"; question 1 of {len(questions)}"
            if hidden := sum(map(len, lines[QUESTION_LINES:])):
                how += f"; {hidden} more characters: Enter shows them"
            add("ansiyellow", *lines[:QUESTION_LINES])
            add("dim", *wrapped(how, width, first="  ", rest="  "))
        return [*parts, ("", "? " if answers else "› ")]

    def _question(self, asked: ApprovalView) -> list[str]:
        width, shown = self._notes.width, self._shown
        if shown is None or shown[0] is not asked or shown[1] != width:  # not at each key
            shown = self._shown = asked, width, question_lines(asked, width)
        return shown[2]

    def sessions(self, sessions: list[SessionView], current: str | None) -> None:
        """A list of sessions, each with its title or the beginning of its latest output."""
        if not sessions:
            self.note("there are no sessions yet: type a message")
        for session in sessions:
            made = datetime.fromtimestamp(session.created_at).strftime("%d %b %H:%M")
            state = "paused" if session.held and not session.is_over else session.phase
            mark, width = "*" if session.id == current else " ", self._notes.width
            self._line(f"{mark} {session.id}  {made}  {state}")
            told = session.title or session.output_text or ""
            said = shortened(told, None if width is None else width - 4)
            if said:
                self._line(said, "dim", first="    ", rest="    ")

    def transcript(self, items: list[dict[str, JsonValue]]) -> None:
        """All messages of a session, uncut."""
        self.end_line()
        for item in items:
            role, content = item.get("role"), item.get("content")
            if role == "tool":
                self._line(f"← {named(str(item.get('name')))} {item.get('ending')}", "cyan")
                self._lines(quoted(str(content), self._notes.width))
            elif role == "assistant":
                if content:
                    self._notes.add(_content_text(content))
                    self._notes.end_line()
                for call in _records(item.get("calls")):
                    self._called(str(call.get("name")), str(call.get("arguments")), None)
            else:
                self.message(str(role), _content_text(content))

    def end_line(self) -> None:
        """Complete the line that is being written."""
        self._answers.end_line()
        self._notes.end_line()

    # Events

    def _begin_turn(self, event: SessionEvent) -> None:
        turn = event.data.get("turn")
        if turn != self._turn:
            self._part_line()
            self._turn, self._text, self._reasoning = turn, "", ""

    def _add_reasoning(self, event: SessionEvent, text: str) -> None:
        self._begin_turn(event)
        if not self._reasoning:
            self._part_line()
        self._reasoning += text
        self._notes.add(text, "dim italic")

    def _add_text(self, event: SessionEvent, text: str) -> None:
        self._begin_turn(event)
        if self._reasoning and not self._text:
            self._notes.end_line()
        self._text += text
        self._answers.add(text)

    def _complete_output(self, event: SessionEvent) -> None:
        """Write what was not shown yet: pieces are lost with a connection, and with time."""
        self._begin_turn(event)
        if not self._reasoning and event.text("reasoning"):
            self._add_reasoning(event, event.text("reasoning"))
        text = event.text("text")
        if text.startswith(self._text):
            self._add_text(event, text[len(self._text) :])
        else:
            self.end_line()
            self._add_text(event, text)
        self._continues = event.data.get("continues") is True
        self._part_line()
        if event.text("stop") == "length":
            self.note("(cut: the output limit is reached)")

    def _call(self, event: SessionEvent) -> None:
        name = event.text("name")
        self._names[event.text("call_id")] = named(name)
        self._called(name, event.text("arguments"), TOLD_CHARACTERS)

    def _called(self, name: str, arguments: str, characters: int | None) -> None:
        self._told(f"→ {named(name)}", arguments, "cyan", characters)

    def _trapped(self, event: SessionEvent) -> None:
        ids = event.data.get("call_ids")
        calls = ids if isinstance(ids, list) else []
        names = ", ".join(self._names.get(str(one), "a call") for one in calls)
        self._line(f"  waiting for {names or 'a result'}", "dim cyan")

    def _injected(self, event: SessionEvent) -> None:
        """Where the model receives results; messages have events of their own."""
        for one in _records(event.data.get("interrupts")):
            if one.get("error"):
                self._told("! the model is told:", str(one["error"]), "red", TOLD_CHARACTERS)
            elif one.get("call_id"):
                name = self._names.get(str(one["call_id"])) or named(str(one.get("id")))
                self._line(f"  the model receives the result of {name}", "dim cyan")

    def _call_progress(self, event: SessionEvent) -> None:
        call_id, message = event.text("call_id"), event.text("message")
        fraction, left = event.number_of("fraction"), event.number_of("remaining_seconds")
        last, said = self._progress.get(call_id, (-1.0, ""))
        step = last if fraction is None else fraction
        if message == said and step - last < _PROGRESS_STEP:
            return
        self._progress[call_id] = (step, message)
        parts = [
            "" if fraction is None else f"{fraction:.0%}",
            "" if left is None else f"about {left:.0f} s left",
        ]
        how_far = ", ".join(part for part in parts if part)
        colon = ":" if how_far and message else ""
        head = f"  {self._names.get(call_id, 'call')}: {how_far}{colon}".rstrip()
        self._told(head, message, "dim cyan", TOLD_CHARACTERS)

    def _result(self, event: SessionEvent) -> None:
        ending, seconds = event.text("ending"), event.number_of("seconds") or 0.0
        self._progress.pop(event.text("call_id"), None)
        cached = ", from the cache" if event.data.get("cached") else ""
        style = "cyan" if ending == "succeeded" else "red"
        self._line(f"← {named(event.text('name'))} {ending} in {seconds:.1f} s{cached}", style)
        content = event.text("content")
        if not content:
            return
        shown = "\n".join(content[:RESULT_CHARACTERS].split("\n", RESULT_LINES)[:RESULT_LINES])
        self._lines(quoted(shown, self._notes.width), "dim")
        if hidden := len(content) - len(shown):
            self.note(f"  … {hidden} more characters (/transcript shows all)")

    def _ended(self, event: SessionEvent) -> None:
        self.end_line()
        ending, error = event.text("ending"), event.text("error")
        head = f"the session has ended: {ending}{':' if error else ''}"
        self._told(head, error, "red" if ending == "failed" else "dim")

    # Writing

    def _part_line(self) -> None:
        """Complete the line, unless it is that of an answer which goes on in a file."""
        if not self._continues or self._answers.width is not None:
            self.end_line()

    def _line(
        self, text: str, style: str = "", *, first: str = "", rest: str | None = "  "
    ) -> None:
        if not self._notes.has_foot:
            self._part_line()
        self._notes.line(text, style, first=first, rest=rest)

    def _told(self, head: str, text: str, style: str, characters: int | None = None) -> None:
        """Write foreign text behind words of ours if it fits in their line, else below them."""
        told, width = inline(text, characters), self._notes.width
        line = f"{head} {told}" if told else head
        if width is None or cell_len(line) <= width:
            self._line(line, style)
        else:
            self._line(head, style)
            self._lines(quoted(told, width), style)

    def _lines(self, lines: list[str], style: str = "") -> None:
        for line in lines:
            self._line(line, style, rest=None)


def _content_text(content: JsonValue) -> str:
    """The text of a message, which may be in parts."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in _records(content))


def _records(value: JsonValue) -> list[dict[str, JsonValue]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
