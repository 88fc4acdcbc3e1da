"""Runs without an `Idempotency-Key`, whose clients may come again for the answer by themselves.

The clients of OpenAI and Anthropic send a request again when its connection breaks or takes too
long, and say so in a header. They give it no name, so it is recognised by what it asks for.
"""

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Request

from caesura.session.agent import Agent
from caesura.session.agents import Agents
from caesura.session.errors import (
    QuotaExceeded,
    SessionClosed,
    StoreUnavailable,
    UnknownSession,
)
from caesura.session.records import Phase
from caesura.session.store import RequestKey, Store

RETRIES_HEADER = "x-stainless-retry-count"
GRACE_SECONDS = 10.0
"""Clients wait 8 s at most before they come again."""
ANSWERED_SECONDS = 60.0
"""A run that has ended is the answer to a retry for so long."""
REFUSED_SECONDS = 130.0
"""Clients that are told to wait come again within 120 s."""
_MOST_REFUSED = 10_000


def retries_of(request: Request) -> int | None:
    """How many times the client has sent the request before; None if it does not say."""
    told = request.headers.get(RETRIES_HEADER, "")
    return int(told) if told.isdecimal() and len(told) < 4 else None


@dataclass(frozen=True, slots=True)
class Asked:
    """What an unnamed request asks for, by which it is recognised.

    Attributes:
        owner: of the request.
        digest: of all that is asked for.
    """

    owner: str
    digest: str

    @property
    def prefix(self) -> str:
        """How the names of such requests begin."""
        return f"unnamed {self.digest} "


Create = Callable[[Sequence[RequestKey], str], Awaitable[Agent]]


@dataclass(frozen=True, slots=True)
class _Left:
    """A run that waits for its client.

    Attributes:
        timer: of its end.
        is_held: it was paused for that; otherwise its user had paused it before.
    """

    timer: asyncio.TimerHandle
    is_held: bool


class Returning:
    """Runs whose clients have left, or may not have got the answer.

    A client that comes again within a moment finds its run paused where it left it; otherwise the
    run ends.

    Args:
        grace_seconds: how long a run waits for its client.
        now: monotonic seconds.
    """

    def __init__(
        self, grace_seconds: float = GRACE_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._grace_seconds = grace_seconds
        self._now = now
        self._making: Counter[Asked] = Counter()
        self._made = asyncio.Event()
        self._readers: Counter[str] = Counter()
        self._left: dict[str, _Left] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._refused: deque[tuple[float, Asked]] = deque(maxlen=_MOST_REFUSED)

    async def made(self, asked: Asked, create: Create) -> Agent:
        """The run of a request that is new: a session that is made now.

        Args:
            asked: what it asks for.
            create: makes a session of an id, under the name of its request.
        """
        session_id = f"sess_{secrets.token_hex(16)}"
        self._making[asked] += 1
        try:
            return await create([RequestKey(asked.prefix + session_id, asked.digest)], session_id)
        except (QuotaExceeded, StoreUnavailable):
            self._refused.append((self._now(), asked))
            raise
        finally:
            self._making[asked] -= 1
            if not self._making[asked]:
                del self._making[asked]
            self._made.set()

    async def found(self, asked: Asked, agents: Agents, store: Store) -> Agent | None:
        """The run of a request that comes again; None if there is none.

        Args:
            asked: what it asks for.
            agents: the sessions.
            store: where their requests are written.
        """
        while asked in self._making:  # its client did not wait for the session
            self._made.clear()
            await self._made.wait()
        earliest_seconds = store.clock() - ANSWERED_SECONDS
        made = await store.requested(asked.owner, asked.prefix, earliest_seconds)
        left = [session_id for session_id in made if session_id in self._left]
        if not left and self._was_refused(asked):
            return None
        for session_id in [*left, *made]:
            with suppress(UnknownSession):
                return await self._taken_back(await agents.agent(asked.owner, session_id))
        return None

    async def _taken_back(self, agent: Agent) -> Agent:
        left = self._left.pop(agent.id, None)
        if left is not None:
            left.timer.cancel()
            if left.is_held:
                with suppress(SessionClosed):
                    await agent.hold(False)
        return agent

    def _was_refused(self, asked: Asked) -> bool:
        """Whether an answer told the client to come again; once for each."""
        while self._refused and self._refused[0][0] < self._now() - REFUSED_SECONDS:
            self._refused.popleft()
        refused = next((each for each in self._refused if each[1] == asked), None)
        if refused is not None:
            self._refused.remove(refused)
        return refused is not None

    def reads(self, agent: Agent) -> None:
        """A client reads the run; `left` in the end."""
        self._readers[agent.id] += 1

    async def left(self, agent: Agent) -> None:
        """A client is gone, or has got everything: a run that nobody reads waits for a moment."""
        self._readers[agent.id] -= 1
        if self._readers[agent.id]:
            return
        del self._readers[agent.id]
        if agent.phase is Phase.ENDED:
            return
        loop, is_held = asyncio.get_running_loop(), not agent.held
        timer = loop.call_later(self._grace_seconds, self._end, agent)
        self._left[agent.id] = _Left(timer, is_held)
        if is_held:
            # Whether or not that can be written down, it is held.
            with suppress(SessionClosed, StoreUnavailable):
                await agent.hold(True)

    def _end(self, agent: Agent) -> None:
        del self._left[agent.id]
        task = asyncio.create_task(_ended(agent))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _ended(agent: Agent) -> None:
    with suppress(SessionClosed):
        await agent.cancel()
