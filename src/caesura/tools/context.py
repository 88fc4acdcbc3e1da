"""What a running call can do besides computing: report progress, ask the human."""

import asyncio
import math
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

from pydantic import JsonValue

from caesura.tools.call import (
    Answer,
    CallEnding,
    CallJournal,
    CallResult,
    Question,
    QuestionKind,
    ToolCall,
)
from caesura.tools.deadline import Deadline
from caesura.tools.failure import AttemptFailed
from caesura.tools.result_text import clean_text

ExecuteStep = Callable[[ToolCall, CallJournal], Awaitable[CallResult]]
Ask = Callable[[Question], Awaitable[Answer]]


class CallContext:
    """One attempt of a call, as the tool sees it.

    Attributes:
        call: the call.
        arguments: its arguments.
        attempt: 1 for the first, more for repetitions.
        journal: what the caller keeps for the call.
        execute_step: runs a call that is part of this one.
    """

    def __init__(
        self,
        call: ToolCall,
        arguments: Mapping[str, JsonValue],
        attempt: int,
        journal: CallJournal,
        *,
        ask: Ask,
        execute_step: ExecuteStep,
        deadline: Deadline,
    ) -> None:
        self.call = call
        self.arguments = arguments
        self.attempt = attempt
        self.journal = journal
        self.execute_step = execute_step
        self._ask = ask
        self._deadline = deadline
        self._asked = Counter[str]()
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()

    def progress(
        self,
        fraction: float | None = None,
        message: str | None = None,
        remaining_seconds: float | None = None,
    ) -> None:
        """Say how far the call is; from any thread. Numbers that say nothing are left out.

        The time limit of the call begins again with each report.

        Args:
            fraction: what is done, from 0 to 1; left out if it is not finite.
            message: for people.
            remaining_seconds: how long it still takes, if the tool knows; left out if it is
                negative or not finite.
        """
        done, remaining = _finite(fraction), _finite(remaining_seconds)
        report = partial(
            self.journal.progress,
            self.call,
            None if done is None else min(1.0, max(0.0, done)),
            None if remaining is None or remaining < 0 else remaining,
            None if message is None else clean_text(message),
        )
        if threading.get_ident() == self._loop_thread:
            self._report(report)
        else:
            self._loop.call_soon_threadsafe(self._report, report)

    def _report(self, report: Callable[[], None]) -> None:
        self._deadline.extend()
        report()

    async def ask(self, text: str, choices: Sequence[str] = ()) -> str:
        """Ask the human and wait, outside the call's time limit.

        The same questions must come in the same order each time the tool runs, since after a
        restart they are answered from what was said before.

        Raises:
            AttemptFailed: the human refused.
        """
        question = self._question("ask", QuestionKind.QUESTION, text, choices=tuple(choices))
        answer = await self.put(question)
        if not answer.accepted:
            raise refused("The human did not answer", answer)
        return answer.text or ""

    def ask_from_thread(self, text: str, choices: Sequence[str] = ()) -> str:
        """The same as `ask` for a function that runs in a thread: blocks it until the answer.

        Raises:
            AttemptFailed: the human refused.
        """
        return asyncio.run_coroutine_threadsafe(self.ask(text, choices), self._loop).result()

    async def ask_for_input(
        self, text: str, schema: Mapping[str, JsonValue] | None, purpose: str = "input"
    ) -> Answer:
        """Ask the human for data that fit a JSON schema (None for mere consent).

        Args:
            text: what the data are for.
            schema: what they must look like.
            purpose: a word that tells questions of one call apart.
        """
        return await self.put(self._question(purpose, QuestionKind.INPUT, text, schema=schema))

    async def put(self, question: Question) -> Answer:
        """Put a question, outside the call's time limit."""
        with self.waiting():
            return await self._ask(question)

    def waiting(self) -> AbstractContextManager[None]:
        """Inside, the call's time limit stands still."""
        return self._deadline.paused()

    def _question(
        self,
        purpose: str,
        kind: QuestionKind,
        text: str,
        *,
        choices: tuple[str, ...] = (),
        schema: Mapping[str, JsonValue] | None = None,
    ) -> Question:
        key = f"{self.call.id}:{purpose}:{self._asked[purpose]}"
        self._asked[purpose] += 1
        return Question(
            key=key,
            session_id=self.call.session_id,
            call_id=self.call.id,
            kind=kind,
            text=text,
            tool=self.call.name,
            arguments=self.arguments,
            choices=choices,
            schema=schema,
        )


def _finite(number: float | None) -> float | None:
    """The number as JSON and databases have it; None if they cannot."""
    if number is None:
        return None
    try:
        finite = float(number)
    except OverflowError:  # an integer beyond all floats
        return None
    return finite if math.isfinite(finite) else None


def refused(what: str, answer: Answer) -> AttemptFailed:
    """The failure that stands for a human's refusal."""
    message = f"{what}: {answer.reason}" if answer.reason else f"{what}."
    return AttemptFailed(message, ending=CallEnding.REFUSED)
