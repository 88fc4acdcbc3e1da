"""What the engine has of one lane of a socket: a conversation that stays in it between requests."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from caesura.server.clients.transcripts import ClientCall

LANE = "caesura_lane"
"""Where the scope of a lane's request has its `EngineLane`."""

Following = Callable[
    [Sequence[dict[str, Any]], Sequence[ClientCall]], Awaitable[Sequence[int] | None]
]
"""The tokens of items of the Responses API that come behind what is generated and has made these
calls, and of how its turn is closed before them; None where the template leaves any doubt."""


class LaneSession(Protocol):
    """A conversation in the engine."""

    async def interrupt(self, token_ids: Sequence[int] | None) -> None:
        """End the turn at the next token, and go on with these tokens; None: stop there."""
        ...

    async def close(self) -> None:
        """End it, and free all that it holds."""
        ...


@dataclass(slots=True, eq=False)
class EngineLane:
    """One lane, as those who serve its requests know it.

    Attributes:
        session: what stays in the engine; None if nothing does.
        following: of the request that is served; None if that is not known.
        was_cut: its output was ended by `interrupt`.
    """

    session: LaneSession | None = None
    following: Following | None = None
    was_cut: bool = False

    def begin(self) -> None:
        """Another request is served."""
        self.following = None
        self.was_cut = False

    async def interrupt(
        self, items: Sequence[dict[str, Any]], calls: Sequence[ClientCall] = ()
    ) -> None:
        """End what is generated at the next token, since these items come next.

        Without a session in the engine it ends by itself, and they come then.

        Args:
            items: of the Responses API.
            calls: those that the output has made so far.
        """
        session, following = self.session, self.following
        if session is None:
            return
        token_ids = None if following is None else await following(items, calls)
        if self.session is session and self.following is following:
            await session.interrupt(token_ids)

    async def close(self) -> None:
        """End its session."""
        session, self.session = self.session, None
        if session is not None:
            await session.close()
