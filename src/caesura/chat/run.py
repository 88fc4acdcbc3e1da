"""`caesura chat`, put together."""

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from caesura.chat.client import SessionsClient
from caesura.chat.conversation import Conversation
from caesura.chat.display import Display
from caesura.chat.lines import Input, Lines, Prompt, given_line, piped_lines
from caesura.chat.loop import ChatLoop, Item, Outcome
from caesura.chat.page import Page
from caesura.console import plain_console
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
        tools: names of the tools of a new session; None for the server's default.
        message: the only message, without a dialogue; None for a dialogue.
        function_calling: what happens at calls of a new session; None for the server's default.
    """

    url: str = DEFAULT_URL
    api_key: str | None = None
    model: str | None = None
    session_id: str | None = None
    tools: tuple[str, ...] | Literal["all"] | None = None
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
        inbox: asyncio.Queue[Item] = asyncio.Queue()
        source = _source(settings, inbox.put_nowait)
        # Who reads from a pipe wants what the model says, and nothing else.
        answers, notes = Page(plain_console()), Page(plain_console(stderr=True))
        if isinstance(source, Prompt):
            notes = source.page
            answers = notes if sys.stdout.isatty() else answers
        display = Display(answers, notes)
        conversation = Conversation(
            client,
            display,
            inbox.put_nowait,
            tools=list(tools) if isinstance(tools := settings.tools, tuple) else tools,
            function_calling=settings.function_calling,
            keeps_open=settings.message is None,
            is_attended=source.is_terminal,
        )
        chat = ChatLoop(conversation, client, display, source, inbox)
        _on_interrupt(chat)
        try:
            if settings.session_id is not None:
                await conversation.open(settings.session_id)
            elif source.is_terminal:
                display.note(f"{client.url}: type a message; /help shows the commands")
                if waiting := len(await client.approvals()):
                    display.note(f"{waiting} questions wait for a human; /questions lists them")
            outcome = await chat.run()
        except asyncio.CancelledError:  # Ctrl-C while the server does not answer
            outcome = Outcome.INTERRUPTED
        finally:
            await conversation.leave()
            await source.close()
        if not conversation.is_over:
            if outcome is Outcome.WAITS_FOR_HUMAN:
                display.note("the session waits for a human's answer")
            back = _command(settings.url, str(conversation.session_id))
            display.note(f"the session continues on the server; come back with: {back}", rest=None)
            source.refresh()
        return outcome


def _source(settings: ChatSettings, put: Callable[[Input], None]) -> Lines:
    if settings.message is not None:
        return given_line(settings.message, put)
    is_seen = sys.stdout.isatty() or sys.stderr.isatty()
    return Prompt(put) if sys.stdin.isatty() and is_seen else piped_lines(put)


def _command(url: str, session_id: str) -> str:
    there = [] if url == DEFAULT_URL else ["--url", url]
    return shlex.join(["caesura", "chat", *there, "--session", session_id])


def _on_interrupt(chat: ChatLoop) -> None:
    """Ctrl-C is something that happens; twice, while the server does not answer, ends the chat."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: chat.interrupt() or task.cancel())


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
