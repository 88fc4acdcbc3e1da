"""The session that is on the screen: what it does, and what is done to it."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from caesura.chat.client import Refused, SessionsClient
from caesura.chat.display import Display
from caesura.chat.questions import read_answer
from caesura.chat.records import ApprovalView, EventKind, SessionEvent, SessionView
from caesura.errors import CaesuraError

_NOT_FOUND, _CONFLICT, _BAD_REQUEST = 404, 409, 400
UNATTENDED_SECONDS = 60.0  # a server that is gone is waited for so long
_ENDING = "ending"  # it was cancelled from here; its last event is to come
_WORKING = frozenset({"generating", "calling", _ENDING})


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of a session."""

    session_id: str
    event: SessionEvent


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection to a session's events broke, or is there again."""

    is_there: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """A session's events cannot be had any more."""

    error: CaesuraError


News = Happened | Connected | Lost


class Conversation:
    """One session at a time, followed and acted on.

    Args:
        client: of its server.
        display: where it is shown.
        put: called with all news, which come back through `take`.
        tools: names of the tools of new sessions; None for the server's default.
        function_calling: what happens at calls of new sessions; None for the server's default.
        keeps_open: new sessions wait for their user after an answer, and do not end.
        is_attended: its user sees what they type, so that it is not shown again, and waits
            for a server that is gone as long as they like.

    Attributes:
        session_id: the session; None before the first message.
        questions: what waits for a human, the oldest first.
        asked_seconds: when the oldest of them was shown, on the event loop's clock.
        ending: how the session ended; None if it has not.
    """

    def __init__(
        self,
        client: SessionsClient,
        display: Display,
        put: Callable[[News], None],
        *,
        tools: list[str] | Literal["all"] | None,
        function_calling: str | None = None,
        keeps_open: bool,
        is_attended: bool,
    ) -> None:
        self.session_id: str | None = None
        self.questions: deque[ApprovalView] = deque()
        self.asked_seconds = 0.0
        self.ending: str | None = None
        self._client = client
        self._display = display
        self._put = put
        self._tools = tools
        self._function_calling = function_calling
        self._keeps_open = keeps_open
        self._is_attended = is_attended
        self._own: list[str] = []  # messages that were typed here and not yet delivered
        self._phase = ""
        self._held = False
        self._ends_itself = False  # after an answer, without waiting for its user
        self._first_turn = 0  # what is told of earlier turns is the past
        self._follower: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is no session that could take a message."""
        return self.session_id is None or self._phase == "ended"

    @property
    def is_working(self) -> bool:
        """Whether the session generates or calls."""
        ends_now = self._ends_itself and self._phase == "idle"
        return not self.is_over and not self._held and (self._phase in _WORKING or ends_now)

    @property
    def waits_for_user(self) -> bool:
        """Whether nothing will happen before its user does something."""
        is_asked = bool(self.questions) and self._phase != "generating"
        return not self.is_working or is_asked

    async def open(self, session_id: str) -> None:
        """Go on with another session; somebody who reads sees it from its beginning."""
        if not self._is_attended:
            after = await self._client.last_event(session_id)
            view = await self._client.session(session_id)
            await self.leave()
            self._begin(view, after)
            self.questions.extend(view.approvals)
            self.ask()
            return
        view = await self._client.session(session_id)
        items = await self._client.transcript(session_id)
        await self.leave()
        # What it was made with is no event. All that follows comes after its first output.
        self._display.transcript(list(takewhile(lambda item: "stop" not in item, items)))
        self._begin(view)

    async def send(self, text: str) -> None:
        """Say something to the session, or begin one with it."""
        if self.is_over or self.session_id is None:
            await self.leave()
            view = await self._client.create(
                text,
                tools=self._tools,
                keep_open=self._keeps_open,
                function_calling=self._function_calling,
            )
            self._display.note(f"session {view.id}")
            self._begin(view)
            self._ends_itself = not self._keeps_open
            return
        before = await self._client.session(self.session_id)
        view = await self._client.say(self.session_id, text)
        if self._is_attended:
            self._own.append(text)
        if view.held:
            await self._client.resume(self.session_id)
        self._phase, self._held, self._first_turn = "generating", False, before.turns + 1

    async def answer(self, line: str) -> None:
        """Answer the oldest question.

        Raises:
            ValueError: the line is no answer; says what would be.
        """
        approval = self.questions[0]
        given = read_answer(approval, line)
        try:
            await self._client.answer(approval.id, given)
        except Refused as error:
            if error.status == _BAD_REQUEST:
                raise ValueError(str(error)) from error
            if error.status not in (_CONFLICT, _NOT_FOUND):
                raise
            self._display.note("it was answered elsewhere, or its session has ended")
        else:
            if approval.session_id != self.session_id:  # whose events are not shown
                self._display.note(f"answered; session {approval.session_id} goes on")
        if self.questions and self.questions[0].id == approval.id:
            self.questions.popleft()
        self.ask()

    async def take_up(self, approval_id: str) -> None:
        """Ask a question first, of whatever session it is.

        Raises:
            ValueError: it does not wait any more.
        """
        approval = await self._client.approval(approval_id)
        if not approval.is_waiting:
            raise ValueError("it was answered elsewhere, or its session has ended")
        others = (asked for asked in self.questions if asked.id != approval_id)
        self.questions = deque([approval, *others])
        self.ask()

    async def pause(self) -> None:
        """Stop it where it is."""
        view = await self._client.pause(self._require())
        self._phase, self._held = view.phase, view.held

    async def resume(self) -> None:
        """Let it go on."""
        view = await self._client.resume(self._require())
        self._phase, self._held = view.phase, view.held

    async def cancel(self) -> None:
        """End it."""
        await self._client.cancel(self._require())
        self._drop_own()
        if self._phase != "ended":
            self._phase, self._held = _ENDING, False

    async def show_transcript(self) -> None:
        """Show all of it, uncut."""
        self._display.transcript(await self._client.transcript(self._require()))

    async def take(self, news: News) -> None:
        """Show news.

        Raises:
            CaesuraError: the session cannot be followed.
        """
        match news:
            case Happened(session_id, event) if session_id == self.session_id:
                await self._happened(event)
            case Connected(is_there=False):
                self._display.note("the connection is lost; trying again ...")
            case Connected():
                self._display.note("connected again")
            case Lost(error):
                raise error

    async def leave(self) -> None:
        """Do not follow the session any more; it goes on on the server."""
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None
        self.questions.clear()
        self._own.clear()

    def _require(self) -> str:
        if self.session_id is None:
            raise ValueError("there is no session yet: type a message, or /open one")
        return self.session_id

    def _begin(self, view: SessionView, after: int = 0) -> None:
        self.session_id, self.ending, self._first_turn = view.id, None, view.turns
        self._phase, self._held, self._ends_itself = view.phase, view.held, False
        self._follower = asyncio.create_task(self._follow(view.id, after))

    async def _follow(self, session_id: str, after: int) -> None:
        try:
            events = self._client.events(
                session_id,
                after,
                on_connection=lambda is_there: self._put(Connected(is_there)),
                give_up_seconds=None if self._is_attended else UNATTENDED_SECONDS,
            )
            async with aclosing(events):
                async for event in events:
                    self._put(Happened(session_id, event))
        except CaesuraError as error:
            self._put(Lost(error))

    async def _happened(self, event: SessionEvent) -> None:
        match event.kind:
            case EventKind.PHASE if (event.number_of("turn") or 0) >= self._first_turn:
                self._phase, self._held = event.text("phase"), event.data.get("held") is True
            case EventKind.ASKED:
                await self._asked(event.text("approval_id"))
            case EventKind.ANSWERED:
                answered = event.text("approval_id")
                self._close(lambda asked: asked.id == answered, "somebody else has answered:")
            case EventKind.RESULT:
                over = event.text("call_id")
                self._close(lambda asked: asked.call_id == over, "no answer is needed any more:")
            case EventKind.ENDED:
                self._phase, self.ending = "ended", event.text("ending")
                self._drop_own()
            case EventKind.MESSAGE if event.text("content") in self._own:
                self._own.remove(event.text("content"))
                return
        self._display.show(event)

    async def _asked(self, approval_id: str) -> None:
        approval = await self._client.approval(approval_id)
        if approval.is_waiting and all(asked.id != approval_id for asked in self.questions):
            self.questions.append(approval)
            if len(self.questions) == 1:
                self.ask()

    def _close(self, is_closed: Callable[[ApprovalView], bool], reason: str) -> None:
        was_shown = self.questions and is_closed(self.questions[0])
        self.questions = deque(asked for asked in self.questions if not is_closed(asked))
        if was_shown:
            self._display.note(reason)
            self.ask()

    def _drop_own(self) -> None:
        """The session asks nothing more; what others ask stays."""
        others = (asked for asked in self.questions if asked.session_id != self.session_id)
        self.questions = deque(others)

    def ask(self) -> None:
        """Show the oldest question, if there is one."""
        if self.questions:
            self._display.question(self.questions[0])
            self.asked_seconds = asyncio.get_running_loop().time()
