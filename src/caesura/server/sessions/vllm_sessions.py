"""The part of the server that runs sessions, on vLLM's engine."""

import asyncio
import logging
import threading
from argparse import Namespace
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import fields
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State

from caesura.engine.config import CaesuraConfig
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat
from caesura.engine.scheduler import InterceptScheduler
from caesura.engine.serving.token_engines import InPlaceEngine
from caesura.errors import ConfigurationError
from caesura.server.answers.server_tools import ServerTools
from caesura.server.configuration import server_configuration
from caesura.server.sessions import approvals, sessions
from caesura.server.sessions.running import running_sessions
from caesura.server.sessions.service import Unavailable
from caesura.session.call_format import CallFormats
from caesura.session.protocol import SamplingDefaults

logger = logging.getLogger(__name__)

_STOP_SECONDS = 20.0


class ServerSessions:
    """Sessions whose tools the server runs, and their routes."""

    def __init__(self) -> None:
        self._running = AsyncExitStack()

    def attach(self, app: FastAPI) -> None:
        """Add the routes of sessions and approvals, and server-run tools in OpenAI's."""
        app.include_router(sessions.router)
        app.include_router(approvals.router)
        app.add_middleware(ServerTools)

    async def start(self, engine_client: Any, state: State, args: Namespace) -> None:
        """Open tools and sessions; those that had not ended go on.

        Raises:
            ConfigurationError: the configuration, a tool or the database cannot be used.
        """
        file = CaesuraConfig.from_vllm(engine_client.vllm_config).config_file
        try:
            _require_one_process(args)
            _require_scheduler(engine_client)
            service = await self._running.enter_async_context(
                running_sessions(
                    server_configuration(file),
                    InPlaceEngine(engine_client),
                    chat := _chat_format(engine_client, state, args),
                    models=tuple(args.served_model_name or [args.model]),
                    formats=_call_formats(chat),
                )
            )
        except ConfigurationError as error:
            # Nobody has asked for sessions: all else can be served without them.
            if file is not None:
                raise
            state.caesura = Unavailable(str(error))
            return
        state.caesura = service
        self._running.callback(_refuse_requests, state)
        _stop_before(engine_client, self.stop)

    async def stop(self) -> None:
        """Stop sessions where they are; they go on at the next start."""
        await self._running.aclose()


def _require_one_process(args: Namespace) -> None:
    """Each API process would go on with all sessions.

    Raises:
        ConfigurationError: there are several.
    """
    if (args.api_server_count or 1) > 1:
        raise ConfigurationError(
            f"sessions need one API process, and there are {args.api_server_count}: start with "
            "--api-server-count 1"
        )


def _require_scheduler(engine_client: Any) -> None:
    """Only Caesura's scheduler pauses and interrupts in place.

    Raises:
        ConfigurationError: there is another.
    """
    scheduler = engine_client.vllm_config.scheduler_config.get_scheduler_cls()
    if not issubclass(scheduler, InterceptScheduler):
        raise ConfigurationError(
            f"sessions need Caesura's scheduler, and there is {scheduler.__name__}: use "
            "`caesura serve`, or its flags (see the README)"
        )


def _chat_format(engine_client: Any, state: State, args: Namespace) -> ChatFormat:
    chat = state.openai_serving_chat
    return ChatFormat(
        engine_client.model_config,
        state.online_renderer.renderer.tokenizer,  # None: there is none, and ChatFormat says so
        chat.parser_cls,
        chat.chat_template,
        chat.default_chat_template_kwargs,
        sampling_defaults(chat),
    )


def sampling_defaults(chat: Any) -> SamplingDefaults:
    """How the model is sampled on vLLM's own routes where a request does not say.

    That is as the model's files have it, or `--generation-config`, or
    `--override-generation-config`.

    Args:
        chat: what serves vLLM's chat completions.
    """
    names = {field.name for field in fields(SamplingDefaults)}
    known = {
        name: chat.default_sampling_params[name] for name in names & {*chat.default_sampling_params}
    }
    return SamplingDefaults(**known, most_tokens=chat.override_max_tokens)


def _call_formats(chat: ChatFormat) -> CallFormats:
    """CML as the model knows it, by its tokens or as text."""
    found = CmlFormat(chat)
    return CallFormats(cml=found) if found.has_marker_tokens else CallFormats(prompted=found)


def _refuse_requests(state: State) -> None:
    """From now on: clients that come back at once would wait for a store that is closed."""
    state.caesura = Unavailable("it is stopping")


def _stop_before(engine_client: Any, stop: Callable[[], Awaitable[None]]) -> None:
    """See that sessions stop before their engine does.

    vLLM shuts its engine down, on another thread, before its application: sessions would see
    an engine that failed, and end.
    """
    shutdown, loop = engine_client.shutdown, asyncio.get_running_loop()
    loop_thread = threading.get_ident()

    def shutdown_after_sessions(*args: Any, **options: Any) -> Any:
        async def stopping() -> None:
            await stop()

        # vLLM shuts down once more on the loop's own thread, which must not wait for itself.
        if loop.is_running() and threading.get_ident() != loop_thread:
            try:
                asyncio.run_coroutine_threadsafe(stopping(), loop).result(_STOP_SECONDS)
            except TimeoutError:
                logger.warning("sessions did not stop within %g s", _STOP_SECONDS)
        return shutdown(*args, **options)

    engine_client.shutdown = shutdown_after_sessions
