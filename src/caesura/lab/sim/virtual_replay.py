"""Closed-loop replay of a workload in virtual time, on one engine or several.

As `bench.replay`: session i arrives at its arrival time, its turn k starts when turn k-1 is
finished and the pause after it is over. Where a turn runs is a router's decision. A session that
comes back to its engine resumes there; one that moves is closed where it was, and its whole context
is computed where it goes.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from caesura.lab.bench.replay import Player, ReplayError, ReplayProgress, ReplayRecord
from caesura.lab.bench.workload import WorkloadSession
from caesura.lab.sim.fleet import NEVER, Fleet, Routing, VirtualEngine
from caesura.lab.sim.outages import Outage, OutageKind
from caesura.lab.sim.routing import Sticky

STUCK_STEPS = 100_000
"""Steps in a row without an output and with nothing to wait for: nobody gets any further."""

PROGRESS_STEPS = 500

DETECTION_SECONDS = 2.0
"""After so long a turn whose engine has failed is sent again."""

TURN_MARK = "/"
"""Between a session's name and the number of a turn, in the id of a request that is one turn."""


@dataclass(frozen=True, slots=True)
class FleetRecord(ReplayRecord):
    """A replay on several engines; `moved_turns` went elsewhere than their sessions' last ones."""

    moved_turns: int = 0


@dataclass(slots=True)
class _Player(Player):
    """Plays one session in virtual time.

    Attributes:
        home: the engine of the last turn.
        moves: how often it changed.
        turn_lost: the last turn has to be sent again.
    """

    in_place: bool
    names_endpoints: bool
    context_tokens: int = field(default=0, init=False)
    home: int | None = field(default=None, init=False)
    moves: int = field(default=0, init=False)
    turn_lost: bool = field(default=False, init=False)

    @property
    def next_turn(self) -> int:
        """The number of the turn to be sent."""
        return len(self.turns) - self.turn_lost

    def submit(self, engine: VirtualEngine, resumes: bool) -> None:
        """Send the next turn; `resumes`: to where the session waits in place."""
        if not self.turn_lost:
            self.begin_turn(engine.now_seconds)
        self.turn_lost = False
        segment = self.turns[-1].segment
        # All but the last token, which was sampled, and not computed.
        computed_before = 0 if resumes else max(0, self.context_tokens - 1)
        self.context_tokens += segment.append_tokens
        engine.submit(
            self.request_id,
            self.name,
            segment.append_tokens if resumes else self.context_tokens,
            segment.output_tokens,
            resumable=self.in_place,
            endpoint=segment.endpoint if self.names_endpoints else None,
            computed_before=computed_before,
        )

    @property
    def request_id(self) -> str:
        """Of the last turn; in place, of all turns since the last move."""
        number = self.moves if self.in_place else len(self.turns)
        return f"{self.name}{TURN_MARK}{number}" if number else self.name

    def receive(self, tokens: int, over: bool, now: float) -> None:
        """Output has come."""
        self.turns[-1].receive(tokens, now)
        self.context_tokens += tokens
        if over:
            self.end_turn(now)

    def lose_turn(self) -> None:
        """The engine failed under the turn: all of its output is generated again."""
        turn = self.turns[-1]
        self.context_tokens -= turn.segment.append_tokens + turn.output_tokens
        turn.output_tokens, turn.first_token_at = 0, None
        self.turn_lost = True


def virtual_replay(
    engines: Sequence[VirtualEngine],
    names: Sequence[str],
    sessions: Sequence[WorkloadSession],
    arrivals_seconds: Sequence[float],
    *,
    in_place: bool,
    names_endpoints: bool = True,
    routing: Routing | None = None,
    on_progress: Callable[[ReplayProgress], None] | None = None,
) -> FleetRecord:
    """Replay sessions until all of them are over.

    Args:
        engines: where they run; their clocks go on from where they are.
        names: a unique name for each session, by which the engine hashes its blocks.
        sessions: what they do.
        arrivals_seconds: when each arrives.
        in_place: sessions pause in place; else each turn is a request with the whole context.
        names_endpoints: turns say what their session will wait for, as tool calls do.
        routing: where turns go; by default sessions stay where they were placed.
        on_progress: called now and then.

    Raises:
        ReplayError: a scheduler generated something else than asked, or goes no further, or a
            router chose an engine that takes no turns.
    """
    players = [
        _Player(name, spec, arrival, in_place, names_endpoints)
        for name, spec, arrival in zip(names, sessions, arrivals_seconds, strict=True)
    ]
    started_at = min(engine.now_seconds for engine in engines)
    replay = _Replay(players, Fleet(engines, routing or Routing(Sticky())), in_place, on_progress)
    replay.run()
    return FleetRecord(
        tuple(player.record() for player in players),
        started_at,
        max(engine.now_seconds for engine in engines),
        replay.moved_turns,
    )


class _Replay:
    def __init__(
        self,
        players: Sequence[_Player],
        fleet: Fleet,
        in_place: bool,
        on_progress: Callable[[ReplayProgress], None] | None,
    ) -> None:
        self.moved_turns = 0
        self._players = players
        self._fleet = fleet
        self._in_place = in_place
        self._on_progress = on_progress
        self._due: list[tuple[float, int]] = [(p.arrives_at, i) for i, p in enumerate(players)]
        heapq.heapify(self._due)
        self._active: dict[str, int] = {}
        self._started = self._finished = self._output_tokens = 0

    def run(self) -> None:
        """Until nobody has anything to do."""
        fleet, due = self._fleet, self._due
        idle_steps = steps = 0
        while True:
            due_seconds = due[0][0] if due else NEVER
            step_seconds = fleet.next_seconds
            if due_seconds == step_seconds == NEVER:
                break
            if fleet.next_change_seconds <= min(due_seconds, step_seconds):
                outage = fleet.change()
                if outage is not None and outage.kind is OutageKind.FAIL:
                    self._lose_turns(outage)
            elif due_seconds <= step_seconds:
                self._send(*heapq.heappop(due))
            else:
                number, outputs = fleet.step(min(due_seconds, fleet.next_change_seconds))
                for output in outputs:
                    self._receive(number, *output)
                idle_steps = 0 if outputs or due else idle_steps + 1
                if idle_steps > STUCK_STEPS:
                    raise ReplayError(
                        f"{len(self._active)} sessions wait for ever at "
                        f"{fleet.engines[number].now_seconds:.1f} s: "
                        f"{', '.join(list(self._active)[:5])}"
                    )
                steps += 1
                if self._on_progress is not None and steps % PROGRESS_STEPS == 0:
                    self._on_progress(
                        ReplayProgress(
                            len(self._players), self._started, self._finished, self._output_tokens
                        )
                    )

    def _send(self, due_seconds: float, index: int) -> None:
        fleet, player = self._fleet, self._players[index]
        home, context = player.home, player.context_tokens
        number = player.next_turn
        new_tokens = player.spec.segments[number].append_tokens
        placed = fleet.place(player.name, number, context, new_tokens, home, due_seconds)
        if home is None:
            self._started += 1
        elif not player.turn_lost:
            fleet.loads.paused_sessions[home] -= 1
        resumes = self._in_place and placed == home
        if home is not None and placed != home:
            self._leave(player, home)
        engine = fleet.engines[placed]
        engine.reach(due_seconds)
        player.home = placed
        player.submit(engine, resumes)
        self._active[player.request_id] = index
        fleet.sent(context, new_tokens, home, placed)
        fleet.look_after(placed)

    def _leave(self, player: _Player, home: int) -> None:
        self.moved_turns += 1
        if self._in_place and not self._fleet.is_dead(home):
            self._fleet.engines[home].close(player.request_id)
            self._fleet.look_after(home)
        player.moves += 1

    def _receive(self, number: int, request_id: str, tokens: int, over: bool) -> None:
        engine, loads = self._fleet.engines[number], self._fleet.loads
        index = self._active[request_id]
        player = self._players[index]
        player.receive(tokens, over, engine.now_seconds)
        self._output_tokens += tokens
        loads.tokens_in_charge[number] += tokens
        if not over:
            return
        del self._active[request_id]
        loads.open_turns[number] -= 1
        pause_seconds = player.turns[-1].segment.pause_seconds
        if pause_seconds is not None:
            engine.pause_ends[request_id] = engine.now_seconds + pause_seconds
            heapq.heappush(self._due, (engine.now_seconds + pause_seconds, index))
            loads.paused_sessions[number] += 1
            return
        self._finished += 1
        loads.tokens_in_charge[number] -= player.context_tokens
        if self._in_place:
            engine.close(request_id)
            self._fleet.look_after(number)

    def _lose_turns(self, outage: Outage) -> None:
        """The turns of an engine that has failed are sent again, once that is known."""
        for request_id, index in list(self._active.items()):
            player = self._players[index]
            if player.home == outage.engine:
                del self._active[request_id]
                player.lose_turn()
                again_seconds = outage.at_seconds + DETECTION_SECONDS
                heapq.heappush(self._due, (again_seconds, index))
