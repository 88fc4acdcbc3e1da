"""The part of the server that runs sessions, on vLLM's engine."""

import asyncio
import json
import logging
import socket
import threading
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields, replace
from functools import partial
from hashlib import sha256
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State

from caesura.engine.config import CaesuraConfig
from caesura.engine.model.chat_format import ChatFormat
from caesura.engine.model.cml_format import CmlFormat, knows_cml
from caesura.engine.scheduler import InterceptScheduler
from caesura.engine.serving.token_engines import InPlaceEngine
from caesura.errors import ConfigurationError
from caesura.server.answers.server_tools import ServerTools
from caesura.server.health import Health
from caesura.server.sessions import approvals, sessions
from caesura.server.sessions.forwarding import Forwarding
from caesura.server.sessions.running import running_sessions
from caesura.server.sessions.service import STOPPING, Unavailable
from caesura.server.settings import server_configuration
from caesura.session.call_format import CallFormats
from caesura.session.protocol import SamplingDefaults

logger = logging.getLogger(__name__)

_STOP_SECONDS = 20.0


class ServerSessions:
    """Sessions whose tools the server runs, and their routes."""

    def attach(self, app: FastAPI) -> None:
        """Add the routes of sessions and approvals, and server-run tools in OpenAI's."""
        app.include_router(sessions.router)
        app.include_router(approvals.router)
        app.add_middleware(ServerTools)
        app.add_middleware(Health)
        app.add_middleware(Forwarding)

    @asynccontextmanager
    async def running(
        self, engine_client: Any, state: State, args: Namespace
    ) -> AsyncIterator[None]:
        """Tools and sessions are open; those that had not ended go on. In the end they stop where
        they are, and go on at the next start.

        Raises:
            ConfigurationError: the configuration, a tool or the database cannot be used.
        """
        file = CaesuraConfig.from_vllm(engine_client.vllm_config).config_file
        async with AsyncExitStack() as running:
            try:
                _require_pausing(engine_client, args)
                adapters = getattr(state, "caesura_adapters", None)
                state.caesura = await running.enter_async_context(
                    running_sessions(
                        server_configuration(file),
                        InPlaceEngine(engine_client, adapters, state.caesura_homes),
                        chat := _chat_format(engine_client, state, args),
                        models=tuple(args.served_model_name or [args.model]),
                        adapters=tuple if adapters is None else adapters.names,
                        formats=CallFormats(CmlFormat(chat) if knows_cml(chat) else None),
                        supervisor=state.caesura_supervisor,
                        owners=state.caesura_access.owners,
                        places=state.caesura_places,
                        fingerprint=partial(_fingerprint, engine_client.model_config, chat),
                        address=partial(_address, args),
                    )
                )
            except ConfigurationError as error:
                # Nobody has asked for sessions: all else can be served without them.
                if file is not None:
                    raise
                state.caesura = Unavailable(str(error))
            else:
                # Clients that come back at once would wait for a store that is closed.
                running.callback(setattr, state, "caesura", STOPPING)
                secret = await state.caesura.store.secret()
                state.caesura_owners = replace(state.caesura_owners, secret=secret)
                _stop_before(engine_client, running.aclose)
            yield


def _require_pausing(engine_client: Any, args: Namespace) -> None:
    """See that there is what sessions need: one process, and the scheduler that pauses."""
    if (args.api_server_count or 1) > 1:  # each would go on with all sessions
        raise ConfigurationError(
            f"sessions need one API process, and there are {args.api_server_count}: start with "
            "--api-server-count 1"
        )
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


def _fingerprint(model: Any, chat: ChatFormat) -> str:
    """What stays the same as long as one server can go on with another's transcripts."""
    template = chat.prompt([{"role": "user", "content": "."}], ())
    parts = [model.model, model.revision, model.tokenizer, model.tokenizer_revision, template]
    return sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _address(args: Namespace) -> str:
    """Where other servers reach this one."""
    host = args.host
    if host in (None, "", "0.0.0.0", "::"):
        host = socket.gethostbyname(socket.gethostname())
    scheme = "https" if args.ssl_keyfile and args.ssl_certfile else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{args.port}"


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
