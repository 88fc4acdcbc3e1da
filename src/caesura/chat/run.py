"""`caesura chat`, put together."""

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from caesura.chat.client import SessionsClient
from caesura.chat.conversation import Conversation
from caesura.chat.display import Display
from caesura.chat.keyboard import GivenLine, Input, Keyboard, PipedLines, TerminalKeyboard
from caesura.chat.loop import ChatLoop, Item, Outcome
from caesura.errors import ConfigurationError

DEFAULT_URL = "http://localhost:8000"


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """What `caesura chat` is started with.

    Attributes:
        url: of the server.
        api_key: of the server, if it asks for one.
        model: the name that the server must serve; None for whatever it serves.
        session_id: the session to go on with; None for a new one.
        tools: names of the tools of a new session; None for all.
        message: the only message, without a dialogue; None for a dialogue.
        function_calling: what happens at calls of a new session; None for the server's default.
    """

    url: str = DEFAULT_URL
    api_key: str | None = None
    model: str | None = None
    session_id: str | None = None
    tools: tuple[str, ...] | None = None
    message: str | None = None
    function_calling: str | None = None


def run_chat(settings: ChatSettings) -> int:
    """Chat until its user leaves; the exit status.

    Raises:
        CaesuraError: the server cannot be reached, or refuses.
        ValueError: a setting does not fit.
    """
    return asyncio.run(_chat(settings))


async def _chat(settings: ChatSettings) -> Outcome:
    async with SessionsClient(settings.url, settings.api_key) as client:
        await _require_server(client, settings.model)
        return await _Chat(settings, client).run()


async def _require_server(client: SessionsClient, model: str | None) -> None:
    """See that sessions can be had before anybody types.

    Raises:
        CaesuraError: they cannot, or the model is another one.
    """
    await client.sessions(limit=1)
    if model is not None:
        served = await client.models()
        if model not in served:
            raise ConfigurationError(f"{client.url} serves {', '.join(served)}, not {model}")


class _Chat:
    """The parts of one chat."""

    def __init__(self, settings: ChatSettings, client: SessionsClient) -> None:
        self._settings = settings
        self._inbox: asyncio.Queue[Item] = asyncio.Queue()
        is_dialogue = settings.message is None and sys.stdin.isatty()
        answers = Console(highlight=False)
        # Who reads from a pipe wants what the model says, and nothing else.
        both = is_dialogue and answers.is_terminal
        self._notes = answers if both else Console(stderr=True, highlight=False)
        self._display = Display(answers, self._notes)
        self._conversation = Conversation(
            client,
            self._display,
            self._inbox.put_nowait,
            tools=None if settings.tools is None else list(settings.tools),
            function_calling=settings.function_calling,
            keeps_open=settings.message is None,
            is_attended=is_dialogue,
        )
        self._client = client
        self._is_dialogue = is_dialogue

    async def run(self) -> Outcome:
        """Chat until its user leaves."""
        if self._settings.session_id is not None:
            await self._conversation.open(self._settings.session_id)
        elif self._is_dialogue:
            self._display.note(f"{self._client.url}: type a message; /help shows what else")
        keyboard = self._keyboard(self._inbox.put_nowait)
        chat = ChatLoop(self._conversation, self._client, self._display, keyboard, self._inbox)
        _on_interrupt(chat)
        try:
            outcome = await chat.run()
        except asyncio.CancelledError:  # Ctrl-C while the server does not answer
            outcome = Outcome.INTERRUPTED
        finally:
            keyboard.close()
            await self._conversation.leave()
        self._say_how_to_return(outcome)
        return outcome

    def _keyboard(self, put: Callable[[Input], None]) -> Keyboard:
        if self._settings.message is not None:
            return GivenLine(self._settings.message, put)
        return TerminalKeyboard(self._notes, put) if self._is_dialogue else PipedLines(put)

    def _say_how_to_return(self, outcome: Outcome) -> None:
        if self._conversation.is_over:
            return
        if outcome is Outcome.WAITS_FOR_HUMAN:
            self._display.note("the session waits for a human's answer")
        url = [] if self._settings.url == DEFAULT_URL else ["--url", self._settings.url]
        session = ["--session", str(self._conversation.session_id)]
        command = shlex.join(["caesura", "chat", *url, *session])
        self._display.note(f"the session goes on on the server; come back with: {command}")


def _on_interrupt(chat: ChatLoop) -> None:
    """Ctrl-C is something that happens; twice, while the server does not answer, ends the chat."""
    task = asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        if not chat.interrupt():
            task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
