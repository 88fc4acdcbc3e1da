"""Random scenarios of sessions, and clients that play them."""

import asyncio
import random
from dataclasses import dataclass, field

from hypothesis import strategies as st

from caesura.engine.serving.launch import Engine
from caesura.session import Sampling, Session, SessionClosed
from support.waiting import think

VOCABULARY = 1000
SHARED_PREFIX = [(7 * index + 3) % VOCABULARY for index in range(96)]


@dataclass(frozen=True)
class Turn:
    """One turn: tokens appended, tokens generated, what happens meanwhile and after it.

    `interrupts` maps a number of generated tokens to how many interrupts are sent there.
    """

    append: int
    output: int
    pause_seconds: float
    interrupts: dict[int, int]


@dataclass(frozen=True)
class Plan:
    """One session's life. `leave_at` closes it after that many deltas of its last turn."""

    turns: tuple[Turn, ...]
    start_seconds: float
    shares_prefix: bool
    leave_at: int | None
    fork_after_turn: int | None


@dataclass
class Record:
    """What a session did: its tokens, and which of them were generated."""

    transcript: list[int] = field(default_factory=list)
    generated: list[int] = field(default_factory=list)


turns = st.builds(
    Turn,
    append=st.integers(1, 120),
    output=st.integers(1, 24),
    pause_seconds=st.sampled_from([0.0, 0.0, 0.01, 0.04, 0.1]),
    interrupts=st.dictionaries(st.integers(0, 20), st.integers(1, 3), max_size=2),
)
plans = st.builds(
    Plan,
    turns=st.lists(turns, min_size=1, max_size=5).map(tuple),
    start_seconds=st.sampled_from([0.0, 0.0, 0.02, 0.1]),
    shares_prefix=st.booleans(),
    leave_at=st.none() | st.integers(0, 10),
    fork_after_turn=st.none() | st.integers(0, 2),
)
scenarios = st.lists(plans, min_size=1, max_size=8)


async def play(engine: Engine, plan: list[Plan], seed: int) -> list[Record]:
    """Play all sessions of a scenario at once; all are closed at the end."""
    players = [_Player(engine, seed * 1000 + index, item) for index, item in enumerate(plan)]
    await asyncio.gather(*(player.play() for player in players))
    return [record for player in players for record in player.records]


class _Player:
    def __init__(self, engine: Engine, seed: int, plan: Plan) -> None:
        self.records: list[Record] = []
        self._engine = engine
        self._random = random.Random(seed)
        self._plan = plan

    def _tokens(self, count: int) -> list[int]:
        return [self._random.randrange(VOCABULARY) for _ in range(count)]

    async def play(self) -> None:
        await think(self._plan.start_seconds)
        first = self._plan.turns[0]
        prompt = (SHARED_PREFIX if self._plan.shares_prefix else []) + self._tokens(first.append)
        forks = []
        session = await Session.open(self._engine.tokens, prompt, _sampling(first))
        record = Record()
        self.records.append(record)
        for index, turn in enumerate(self._plan.turns):
            if index:
                await session.resume(self._tokens(turn.append), _sampling(turn))
            last = index == len(self._plan.turns) - 1
            if not await self._generate(
                session, record, turn, self._plan.leave_at if last else None
            ):
                break
            if index == self._plan.fork_after_turn:
                forks.append(asyncio.create_task(self._fork(list(session.transcript))))
            await think(turn.pause_seconds)
        record.transcript = list(session.transcript)
        await session.close()
        await asyncio.gather(*forks)

    async def _generate(
        self, session: Session, record: Record, turn: Turn, leave_at: int | None
    ) -> bool:
        """Generate until the pause; False when the session was left in the middle."""
        seen, deltas = 0, 0
        interrupts = dict(turn.interrupts)
        before = len(session.transcript)
        for _ in range(interrupts.pop(0, 0)):
            await session.interrupt(self._tokens(self._random.randint(1, 40)))
        async for delta in session:
            record.generated += range(before, before + len(delta.token_ids))
            before = len(session.transcript)
            seen, deltas = seen + len(delta.token_ids), deltas + 1
            if leave_at is not None and deltas > leave_at:
                return False
            for position in [key for key in interrupts if key <= seen]:
                for _ in range(interrupts.pop(position)):
                    try:
                        await session.interrupt(self._tokens(self._random.randint(1, 40)))
                    except (SessionClosed, RuntimeError):
                        return False
                    except Exception as error:
                        if type(error).__name__ not in ("NotGenerating", "ContextFull"):
                            raise
        return True

    async def _fork(self, transcript: list[int]) -> None:
        """Another session that goes on from the same context."""
        prompt = transcript + self._tokens(self._random.randint(1, 30))
        session = await Session.open(
            self._engine.tokens, prompt, Sampling(max_tokens=8, ignore_eos=True)
        )
        record = Record()
        before = len(session.transcript)
        async for delta in session:
            record.generated += range(before, before + len(delta.token_ids))
            before = len(session.transcript)
        record.transcript = list(session.transcript)
        self.records.append(record)
        await session.close()


def _sampling(turn: Turn) -> Sampling:
    return Sampling(max_tokens=turn.output, ignore_eos=True)
