"""Which engine a turn goes to: what a router sees, and the routers that come with the simulator.

docs/how-to/write-a-router.md shows a router of one's own.
"""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EngineLoads:
    """The engines that take turns, as a router sees them; each array has an entry per engine.

    Loads are as they were at the last look, with what has been sent since.

    Attributes:
        engines: their numbers, ascending; not all where some have failed or are drained.
        tokens_in_charge: tokens of context of the sessions that they serve: running, waiting and
            paused ones.
        open_turns: turns that run or wait.
        paused_sessions: sessions in a pause.
        total: how many engines there are, with those that take no turns.
    """

    engines: NDArray[np.int64]
    tokens_in_charge: NDArray[np.int64]
    open_turns: NDArray[np.int64]
    paused_sessions: NDArray[np.int64]
    total: int


@dataclass(frozen=True, slots=True)
class DueTurn:
    """A turn that has to be sent somewhere.

    Attributes:
        session: the name of its session.
        number: of the turn in its session, from 0.
        context_tokens: tokens that the session has already.
        new_tokens: tokens that the turn brings.
        home: the engine of the session's last turn; None for a first turn, and if that engine
            takes no turns any more.
        now_seconds: when it is sent.
    """

    session: str
    number: int
    context_tokens: int
    new_tokens: int
    home: int | None
    now_seconds: float


class Router(Protocol):
    """Decides where turns go. Made anew, without arguments, for each run."""

    def place(self, turn: DueTurn, loads: EngineLoads) -> int:
        """The engine for a turn: one of `loads.engines`, which is never empty."""
        ...


class Sticky:
    """Sessions go where the fewest tokens are in charge, and stay."""

    def place(self, turn: DueTurn, loads: EngineLoads) -> int:
        """See `Router`."""
        if turn.home is not None:
            return turn.home
        return int(loads.engines[loads.tokens_in_charge.argmin()])


class ByHash:
    """Sessions go by a hash of their names; an engine that goes away moves only its own ones."""

    def place(self, turn: DueTurn, loads: EngineLoads) -> int:
        """See `Router`."""
        if turn.home is not None:
            return turn.home
        attempt = 0
        while True:
            text = f"{turn.session}:{attempt}".encode()
            digest = hashlib.blake2b(text, digest_size=8).digest()
            engine = int.from_bytes(digest, "big") % loads.total
            place = int(loads.engines.searchsorted(engine))
            if place < len(loads.engines) and loads.engines[place] == engine:
                return engine
            attempt += 1


class Least:
    """Every turn goes where the fewest turns are open, as vLLM's own balancer does it."""

    def place(self, turn: DueTurn, loads: EngineLoads) -> int:
        """See `Router`."""
        return int(loads.engines[loads.open_turns.argmin()])


STICKY = "sticky"
_ROUTERS: dict[str, Callable[[], Router]] = {STICKY: Sticky, "hash": ByHash, "least": Least}


def make_router(name: str) -> Router:
    """A router by name, or `module:Class` for one of your own.

    Raises:
        ValueError: there is none; the message says which there are, or what is wrong with it.
    """
    if name in _ROUTERS:
        return _ROUTERS[name]()
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(
            f"unknown router {name!r}; choose {', '.join(_ROUTERS)}, or name a class of your own "
            "as module:Class"
        )
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"router {name!r} cannot be made: {error}") from error
    if not callable(getattr(made, "place", None)):
        raise ValueError(f"router {name!r} has no method place(turn, loads)")
    return cast(Router, made)
