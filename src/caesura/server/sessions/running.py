"""Sessions that run: everything opened in order, and closed in the reverse order."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from caesura.errors import ConfigurationError
from caesura.server.sessions.service import Service
from caesura.server.sessions.streams import OpenStreams
from caesura.server.sessions.webhook import Webhook
from caesura.server.settings import ServerSettings, SessionsSection, WebhookSection, database_path
from caesura.session.agents import Agents
from caesura.session.approvals import Approvals
from caesura.session.call_format import CallFormats
from caesura.session.dialogue import Dialogue
from caesura.session.errors import StoreUnavailable
from caesura.session.places import OwnersPlaces
from caesura.session.protocol import TokenEngine
from caesura.session.records import SessionSpec
from caesura.session.store import Store
from caesura.session.supervisor import Supervisor
from caesura.session.workplace import Workplace
from caesura.tools.configuration import Configuration
from caesura.tools.executor import Executor
from caesura.tools.toolbox import open_toolbox

if TYPE_CHECKING:  # it needs a package that a server alone does without
    from caesura.session.replicas import Replicas


@asynccontextmanager
async def running_sessions(
    configuration: Configuration[ServerSettings],
    engine: TokenEngine,
    dialogue: Dialogue,
    *,
    models: tuple[str, ...],
    adapters: Callable[[], Collection[str]] = tuple,
    formats: CallFormats | None = None,
    owners: int = 1,
    supervisor: Supervisor | None = None,
    places: OwnersPlaces | None = None,
    fingerprint: Callable[[], str] = str,
    address: Callable[[], str] = str,
) -> AsyncIterator[Service]:
    """Sessions of a server: those that had not ended go on, and new ones can be made.

    On leaving they stop where they are, and go on at the next start.

    Args:
        configuration: tools, limits, and so on.
        engine: generates.
        dialogue: the model's chat format.
        models: names under which the model is served.
        adapters: names of its adapters, as they are loaded now.
        formats: what the model knows beside that; the settings say what is used of it.
        owners: how many share what may be stored.
        supervisor: runs what goes on in the background.
        places: to generate, by owner, shared with what else generates on the engine.
        fingerprint: of the model, its tokenizer and its chat template.
        address: where other servers on the same database reach this one.

    Raises:
        ConfigurationError: a tool, the database or the way of calling cannot be used.
    """
    settings = configuration.settings
    formats = _chosen(formats or CallFormats(), settings.sessions)
    path = database_path(configuration)
    async with open_toolbox(configuration) as toolbox:
        with _open_store(path) as store:
            approvals = Approvals(store)
            executor = Executor(toolbox)
            limits = settings.sessions.limits(owners)
            work = Workplace(
                engine,
                dialogue,
                executor,
                store,
                approvals,
                formats,
                limits,
                supervisor=supervisor or Supervisor(),
                owner_limits=settings.owner_limits(limits),
                separates_owners=owners > 1 and not settings.sessions.share_prefixes,
                shared_places=places,
                replicas=_replicas(
                    store, settings.sessions, fingerprint, models[0], executor, address
                ),
            )
            agents = Agents(work)
            async with _telling(settings.webhook, work):
                try:
                    await _start(agents, store.name)
                    default_tools = settings.sessions.default_tools
                    yield Service(
                        agents,
                        store,
                        executor,
                        settings.server,
                        models,
                        store.name,
                        OpenStreams(work.limits_of),
                        dialogue.max_context_tokens,
                        None if default_tools == "all" else default_tools,
                        adapters=adapters,
                    )
                finally:
                    await agents.stop()


def _chosen(formats: CallFormats, settings: SessionsSection) -> CallFormats:
    """The formats with the settings of sessions that do not say otherwise."""
    chosen = replace(
        formats,
        protocol=settings.protocol,
        function_calling=settings.function_calling,
        constrains=settings.constrain_calls,
    )
    try:
        chosen.settled(SessionSpec.model_validate({"messages": [{"role": "user", "content": "."}]}))
    except ValueError as error:
        raise ConfigurationError(f"sessions.protocol, function_calling: {error}") from error
    return chosen


async def _start(agents: Agents, database: str) -> None:
    """Go on with the sessions that had not ended.

    Raises:
        ConfigurationError: they cannot be read.
    """
    try:
        await agents.start()
    except StoreUnavailable as error:
        raise ConfigurationError(
            f"cannot use the database {database}: {error}; restore it from a copy, or choose "
            "another with sessions.database"
        ) from error


@contextmanager
def _open_store(path: Path | str) -> Iterator[Store]:
    store = Store(path)
    try:
        yield store
    finally:
        store.close()


def _replicas(
    store: Store,
    settings: SessionsSection,
    fingerprint: Callable[[], str],
    model: str,
    executor: Executor,
    address: Callable[[], str],
) -> "Replicas | None":
    """This server among those that share the store; None if it has a file of its own."""
    if not store.is_shared:
        return None
    from caesura.session.database.postgres import PostgresBackend
    from caesura.session.replicas import Replicas, Served

    assert isinstance(store.backend, PostgresBackend)
    served = Served(fingerprint(), model, tuple(executor.names()), address())
    return Replicas(store.backend, served, settings.lease_seconds)


@asynccontextmanager
async def _telling(settings: WebhookSection | None, work: Workplace) -> AsyncIterator[None]:
    """The webhook, if there is one."""
    if settings is None:
        yield
        return
    async with httpx.AsyncClient(follow_redirects=False) as client:
        webhook = Webhook(settings, work.store, work.approvals, client)
        work.supervisor.start("webhook", webhook.run)
        try:
            yield
        finally:
            await work.supervisor.stop("webhook")
