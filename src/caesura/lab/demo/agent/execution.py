"""Calls of a session on the tools of a configuration, without a server."""

from itertools import count

from caesura.cml import Call, FireAndForget
from caesura.cml.frames import json_text
from caesura.tools import Answer, Executor, Question, ToolCall


class ToolExecution:
    """Runs the calls of one session. `session.calling.Execute`.

    Args:
        executor: of the tools.
        session_id: the session.

    Attributes:
        results: what the tools returned, by the calls' ids.
    """

    def __init__(self, executor: Executor, session_id: str) -> None:
        self._executor = executor
        self._session_id = session_id
        self._numbers = count(1)
        self.results: dict[str, str] = {}

    async def __call__(self, call: Call | FireAndForget) -> str:
        """Run a call; what failed is a result too, for the model to read."""
        label = call.id if isinstance(call, Call) else f"sent{next(self._numbers)}"
        made = ToolCall(
            id=f"{self._session_id}-{label}",
            name=call.name,
            arguments_text=json_text(call.arguments),
            session_id=self._session_id,
        )
        result = await self._executor.execute(made, Unattended())
        self.results[label] = result.content
        return result.content


class Unattended:
    """`CallJournal` of sessions that end with the program: nothing is kept, nobody is asked."""

    owner = "demo"

    async def dispatching(self, call: ToolCall, attempt: int) -> None:
        """Nothing to write down."""

    async def ask(self, question: Question) -> Answer:
        """Nobody is there."""
        return Answer(accepted=False, reason="nobody attends this demo")

    def progress(
        self,
        call: ToolCall,
        fraction: float | None,
        remaining_seconds: float | None,
        message: str | None,
    ) -> None:
        """How far a call is changes nothing here."""
