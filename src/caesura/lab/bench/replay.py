"""Closed-loop replay of a workload against an engine, on the wall clock.

Session i arrives at its arrival time; its turn k is submitted when turn k-1 has finished and
the pause after it is over. All times are seconds of `time.perf_counter`.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from caesura.errors import CaesuraError
from caesura.lab.bench.prompts import Prompts
from caesura.lab.bench.workload import Segment, WorkloadSession
from caesura.session import Sampling, Session, TokenEngine


class ReplayError(CaesuraError):
    """The engine did not do what was asked, so that nothing measured would mean anything."""


class ReplayEnding(StrEnum):
    """How a replayed session ended."""

    COMPLETED = "completed"
    TIME_LIMIT = "time_limit"  # closed, or not even started, when the time limit came


@dataclass(frozen=True, slots=True)
class ReplayedTurn:
    """One turn as it went.

    Attributes:
        append_tokens: tokens submitted.
        output_tokens: tokens received; fewer than asked only when the time limit came.
        submitted_at: when the tokens were submitted.
        first_token_at: when the first output token came, None before it.
        finished_at: when the last one came, None before it.
        endpoint: what the pause after the turn waits for.
        cached_tokens: tokens of context that were not computed again, if the engine says so.
    """

    append_tokens: int
    output_tokens: int
    submitted_at: float
    first_token_at: float | None
    finished_at: float | None
    endpoint: str | None
    cached_tokens: int | None


@dataclass(frozen=True, slots=True)
class ReplayedSession:
    """One session as it went; `turns` has those that were submitted."""

    id: str
    kind: str
    arrived_at: float
    turns: tuple[ReplayedTurn, ...]
    ending: ReplayEnding


@dataclass(frozen=True, slots=True)
class ReplayRecord:
    """A whole replay as it went, sessions in order of arrival."""

    sessions: tuple[ReplayedSession, ...]
    started_at: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """How far a replay has come."""

    sessions: int
    started: int
    finished: int
    output_tokens: int


@dataclass(slots=True)
class RunningTurn:
    """A turn while it runs; fields as in `ReplayedTurn`."""

    segment: Segment
    submitted_at: float
    output_tokens: int = 0
    first_token_at: float | None = None
    finished_at: float | None = None
    cached_tokens: int | None = None

    def receive(self, tokens: int, now: float) -> None:
        """Output tokens have come; there may be none."""
        if tokens and self.first_token_at is None:
            self.first_token_at = now
        self.output_tokens += tokens

    def record(self) -> ReplayedTurn:
        """The turn as it went so far."""
        return ReplayedTurn(
            self.segment.append_tokens,
            self.output_tokens,
            self.submitted_at,
            self.first_token_at,
            self.finished_at,
            self.segment.endpoint,
            self.cached_tokens,
        )


@dataclass(slots=True)
class Player:
    """Plays one session on some engine and clock.

    Attributes:
        name: unique among the sessions on the engine.
        spec: what the session does.
        arrives_at: when it starts.
        turns: those that were submitted.
    """

    name: str
    spec: WorkloadSession
    arrives_at: float
    turns: list[RunningTurn] = field(default_factory=list, init=False)

    @property
    def completed(self) -> bool:
        """All turns are finished."""
        return len(self.turns) == len(self.spec.segments) and self.turns[-1].finished_at is not None

    def begin_turn(self, now: float) -> RunningTurn:
        """The next turn is submitted."""
        turn = RunningTurn(self.spec.segments[len(self.turns)], submitted_at=now)
        self.turns.append(turn)
        return turn

    def end_turn(self, now: float, state: str = "") -> None:
        """The last turn is over.

        Args:
            now: when it ended.
            state: of the engine's session, for the error.

        Raises:
            ReplayError: it did not have exactly the tokens that were asked for.
        """
        turn = self.turns[-1]
        asked = turn.segment.output_tokens
        if turn.output_tokens != asked:
            raise ReplayError(
                f"session {self.name}, turn {len(self.turns)}: asked for {asked} tokens and "
                f"received {turn.output_tokens}{state and f' ({state})'}"
            )
        turn.finished_at = now

    def record(self) -> ReplayedSession:
        """The session as it went so far."""
        return ReplayedSession(
            self.spec.id,
            self.spec.kind,
            self.arrives_at,
            tuple(turn.record() for turn in self.turns),
            ReplayEnding.COMPLETED if self.completed else ReplayEnding.TIME_LIMIT,
        )


class RealTimePlayer(Player, ABC):
    """Plays one session on the wall clock."""

    async def play(self, report: Callable[[], None]) -> None:
        """Arrive, take turns, and wait in between for as long as the tools took.

        Args:
            report: called when the session starts and when a turn finishes.

        Raises:
            ReplayError: a turn did not go as it was asked for.
        """
        await _sleep_until(self.arrives_at)
        for segment in self.spec.segments:
            turn = self.begin_turn(time.perf_counter())
            if len(self.turns) == 1:
                report()
            finished_at = await self.take_turn(turn)
            report()
            if segment.pause_seconds is not None:
                await _sleep_until(finished_at + segment.pause_seconds)

    @abstractmethod
    async def take_turn(self, turn: RunningTurn) -> float:
        """Have a turn generated, and end it; returns when it finished."""


@dataclass(slots=True)
class _EnginePlayer(RealTimePlayer):
    engine: TokenEngine
    prompts: list[list[int]]
    _session: Session | None = field(default=None, init=False)

    async def play(self, report: Callable[[], None]) -> None:
        try:
            await super(_EnginePlayer, self).play(report)
        finally:
            if self._session is not None:
                await self._session.close()

    async def take_turn(self, turn: RunningTurn) -> float:
        segment, tokens = turn.segment, self.prompts[len(self.turns) - 1]
        if self._session is None:
            self._session = await Session.open(
                self.engine,
                tokens,
                _sampling(segment),
                session_id=self.name,
                endpoint=segment.endpoint,
            )
        else:
            await self._session.resume(tokens, _sampling(segment), segment.endpoint)
        now = turn.submitted_at
        async for delta in self._session:
            now = time.perf_counter()
            turn.receive(len(delta.token_ids), now)
            if delta.cached_tokens is not None:
                turn.cached_tokens = delta.cached_tokens
        self.end_turn(now, f"state {self._session.state}, stop {self._session.stop}")
        return now


async def replay(
    engine: TokenEngine,
    sessions: Sequence[WorkloadSession],
    arrivals_seconds: Sequence[float],
    prompts: Prompts,
    *,
    label: str = "replay",
    time_limit_seconds: float | None = None,
    on_progress: Callable[[ReplayProgress], None] | None = None,
) -> ReplayRecord:
    """Replay sessions and record when each token-producing step happened.

    Args:
        engine: where the sessions run.
        sessions: what they do.
        arrivals_seconds: when each arrives, counted from the start of the replay.
        prompts: the token ids that they submit.
        label: start of the session ids, different for replays on one engine.
        time_limit_seconds: sessions that are unfinished then are closed and do not count as
            completed.
        on_progress: called when a session starts and when a turn finishes.

    Raises:
        ReplayError: a turn did not have exactly the tokens that were asked for.
        ValueError: there are no sessions, or not one arrival for each.
    """
    if not sessions:
        raise ValueError("there are no sessions to replay")
    token_ids = [prompts.of(index, spec) for index, spec in enumerate(sessions)]
    started_at = time.perf_counter()
    players = [
        _EnginePlayer(f"{label}-{index}-{spec.id}", spec, started_at + arrival, engine, tokens)
        for index, (spec, tokens, arrival) in enumerate(
            zip(sessions, token_ids, arrivals_seconds, strict=True)
        )
    ]
    return await play_all(players, started_at, time_limit_seconds, on_progress)


async def play_all(
    players: Sequence[RealTimePlayer],
    started_at: float,
    time_limit_seconds: float | None = None,
    on_progress: Callable[[ReplayProgress], None] | None = None,
) -> ReplayRecord:
    """Let players play side by side.

    Args:
        players: in order of arrival.
        started_at: when the replay began, of `time.perf_counter`.
        time_limit_seconds: those that are unfinished then are stopped.
        on_progress: called when a session starts and when a turn finishes.

    Raises:
        ReplayError: a turn did not have exactly the tokens that were asked for.
    """

    def report() -> None:
        if on_progress is not None:
            on_progress(_progress(players))

    tasks = [asyncio.create_task(player.play(report)) for player in players]
    try:
        await asyncio.wait(tasks, timeout=time_limit_seconds, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        endings = await asyncio.gather(*tasks, return_exceptions=True)
    for ending in endings:
        if isinstance(ending, Exception):
            raise ending
    return ReplayRecord(
        tuple(player.record() for player in players), started_at, time.perf_counter()
    )


def _progress(players: Sequence[Player]) -> ReplayProgress:
    return ReplayProgress(
        sessions=len(players),
        started=sum(bool(player.turns) for player in players),
        finished=sum(player.completed for player in players),
        output_tokens=sum(turn.output_tokens for player in players for turn in player.turns),
    )


def _sampling(segment: Segment) -> Sampling:
    return Sampling(max_tokens=segment.output_tokens, ignore_eos=True)


async def _sleep_until(moment: float) -> None:
    """Sleep until a moment of `time.perf_counter`; at least yields to the event loop."""
    await asyncio.sleep(max(0.0, moment - time.perf_counter()))
