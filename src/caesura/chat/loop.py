"""The chat: what is typed goes to the session, what happens in it goes to the display."""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from caesura.chat.client import SessionsClient
from caesura.chat.commands import Command, help_text, read_order
from caesura.chat.conversation import Conversation, News
from caesura.chat.display import Display
from caesura.chat.lines import Closed, Input, Lines, Typed
from caesura.chat.questions import REFUSE, is_decision
from caesura.chat.records import ApprovalView
from caesura.errors import CaesuraError


class Outcome(IntEnum):
    """How a chat ended, as the exit status; 2 is an error."""

    DONE = 0
    ENDED = 1  # the session failed, was cancelled, or reached a limit
    WAITS_FOR_HUMAN = 3  # and nobody is here to answer
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Ctrl-C was typed."""


Item = Input | News | Interrupted


class ChatLoop:
    """Takes what is typed and what happens from an inbox, one after the other."""

    def __init__(
        self,
        conversation: Conversation,
        client: SessionsClient,
        display: Display,
        source: Lines,
        inbox: "asyncio.Queue[Item]",
    ) -> None:
        self._conversation = conversation
        self._client = client
        self._display = display
        self._source = source
        self._inbox = inbox
        self._lines: deque[Typed] = deque()
        self._has_all_lines = False
        self._listed: list[ApprovalView] = []
        self._outcome: Outcome | None = None
        self._interrupts = 0  # that were not taken yet
        source.foot = lambda begun: display.foot(conversation.questions, self.answers(begun))

    def interrupt(self) -> bool:
        """Ctrl-C was typed; False if the one before was not taken yet."""
        self._interrupts += 1
        self._inbox.put_nowait(Interrupted())
        return self._interrupts == 1

    async def run(self) -> Outcome:
        """Go on until its user leaves, or all lines are taken and answered.

        Raises:
            CaesuraError: the server cannot be used, and nobody is there to see to it.
        """
        self._source.refresh()
        while self._outcome is None:
            await self._take(await self._inbox.get())
            await self._take_lines()
            self._source.refresh()
        self._display.end_line()
        return self._outcome

    def answers(self, begun_seconds: float) -> bool:
        """Whether a line that was begun then answers a question. One that was begun before the
        question could be read does not: it might allow what nobody has seen."""
        conversation = self._conversation
        can_be_read = not self._source.is_terminal or begun_seconds >= conversation.asked_seconds
        return can_be_read and bool(conversation.questions)

    async def _take(self, item: Item) -> None:
        match item:
            case Typed(text):
                if text and self._source.is_terminal:
                    self._display.message("user", text)
                self._lines.append(item)
            case Closed():
                self._has_all_lines = True
            case Interrupted():
                await self._interrupt()
            case _:
                await self._news(item)

    async def _news(self, news: News) -> None:
        try:
            await self._conversation.take(news)
        except CaesuraError as error:
            self._report(error)

    async def _take_lines(self) -> None:
        """Take lines; those of a file one at a time, each after the answer to the one before."""
        while self._lines and self._is_free:
            await self._line(self._lines.popleft())
        if self._has_all_lines and not self._lines and self._is_free and self._outcome is None:
            self._outcome = self._final()

    @property
    def _is_free(self) -> bool:
        return self._source.is_terminal or self._conversation.waits_for_user

    async def _line(self, line: Typed) -> None:
        conversation, text = self._conversation, line.text
        is_order = text.startswith("/") and text.split()[0] != REFUSE
        try:
            if not text.strip():
                conversation.ask()
            elif not is_order and self.answers(line.begun_seconds):
                await conversation.answer(text)
            elif conversation.questions and is_decision(text):
                self._display.note("the question came while you typed: answer it once more")
            elif (order := read_order(text)) is not None:
                await self._obey(*order)
            else:
                await conversation.send(text)
        except (CaesuraError, ValueError) as error:
            self._report(error)

    async def _obey(self, command: Command, argument: str) -> None:
        conversation = self._conversation
        match command:
            case Command.HELP:
                self._display.note(help_text())
            case Command.SESSIONS:
                self._display.sessions(await self._client.sessions(), conversation.session_id)
            case Command.OPEN:
                await conversation.open(argument)
            case Command.PAUSE:
                await conversation.pause()
                self._display.note("paused; /resume continues")
            case Command.RESUME:
                await conversation.resume()
            case Command.CANCEL:
                await conversation.cancel()
            case Command.TRANSCRIPT:
                await conversation.show_transcript()
            case Command.QUESTIONS:
                self._listed = await self._client.approvals()
                self._display.questions(self._listed)
            case Command.ANSWER:
                await conversation.take_up(self._chosen(argument))
            case Command.SAY:
                await conversation.send(argument)
            case Command.QUIT:
                self._outcome = self._final()

    def _chosen(self, number: str) -> str:
        """The id of a question that was listed.

        Raises:
            ValueError: there is none of that number.
        """
        if not number.isdecimal() or not 1 <= int(number) <= len(self._listed):
            raise ValueError("give the number of a question that /questions has shown")
        return self._listed[int(number) - 1].id

    async def _interrupt(self) -> None:
        """Stop what is written, if something is; else leave."""
        self._interrupts -= 1
        if not (self._source.is_terminal and self._conversation.is_working):
            self._outcome = Outcome.DONE if self._source.is_terminal else Outcome.INTERRUPTED
            return
        try:
            await self._conversation.pause()
        except CaesuraError as error:
            self._report(error)
            return
        self._display.note("paused; a message or /resume continues, Ctrl-C again leaves")

    def _final(self) -> Outcome:
        if self._source.is_terminal:
            return Outcome.DONE
        if self._conversation.questions:
            return Outcome.WAITS_FOR_HUMAN
        has_answered = self._conversation.ending in (None, "completed")
        return Outcome.DONE if has_answered else Outcome.ENDED

    def _report(self, error: CaesuraError | ValueError) -> None:
        if not self._source.is_terminal:
            raise error
        self._display.error(str(error))
