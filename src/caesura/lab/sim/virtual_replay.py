"""Closed-loop replay of a workload in virtual time, on the scheduler without a model.

The same loop as `replay.py` on another clock: turn k is submitted when turn k-1 has finished
and the pause after it is over.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from caesura.lab.bench.replay import Player, ReplayError, ReplayProgress, ReplayRecord
from caesura.lab.bench.workload import WorkloadSession
from caesura.lab.sim.vllm_engine import HeadlessEngine

STUCK_STEPS = 100_000
"""Steps in a row without an output and with nothing to wait for: nobody gets any further."""

PROGRESS_STEPS = 500

TURN_MARK = "/"
"""Between a session's name and the number of a turn, in the id of a request that is one turn."""


@dataclass(slots=True)
class _Player(Player):
    """Plays one session in virtual time."""

    in_place: bool
    names_endpoints: bool
    context_tokens: int = field(default=0, init=False)

    def submit(self, engine: HeadlessEngine) -> None:
        segment = self.begin_turn(engine.now_seconds).segment
        new_tokens = segment.append_tokens
        # All but the last token, which was sampled, and not computed.
        computed_before = 0 if self.in_place else max(0, self.context_tokens - 1)
        self.context_tokens += new_tokens
        engine.submit(
            self.request_id,
            self.name,
            new_tokens if self.in_place else self.context_tokens,
            segment.output_tokens,
            resumable=self.in_place,
            endpoint=segment.endpoint if self.names_endpoints else None,
            computed_before=computed_before,
        )

    @property
    def request_id(self) -> str:
        return self.name if self.in_place else f"{self.name}{TURN_MARK}{len(self.turns)}"

    def receive(self, tokens: int, over: bool, now: float) -> None:
        self.turns[-1].receive(tokens, now)
        self.context_tokens += tokens
        if over:
            self.end_turn(now)


def virtual_replay(
    engine: HeadlessEngine,
    names: Sequence[str],
    sessions: Sequence[WorkloadSession],
    arrivals_seconds: Sequence[float],
    *,
    in_place: bool,
    names_endpoints: bool = True,
    on_progress: Callable[[ReplayProgress], None] | None = None,
) -> ReplayRecord:
    """Replay sessions until all of them are over.

    Args:
        engine: where they run; its clock goes on from where it is.
        names: a unique name for each session, by which the engine hashes its blocks.
        sessions: what they do.
        arrivals_seconds: when each arrives.
        in_place: sessions pause in place; else each turn is a request with the whole context.
        names_endpoints: turns say what their session will wait for, as tool calls do.
        on_progress: called now and then.

    Raises:
        ReplayError: the scheduler generated something else than asked, or goes no further.
    """
    players = [
        _Player(name, spec, arrival, in_place, names_endpoints)
        for name, spec, arrival in zip(names, sessions, arrivals_seconds, strict=True)
    ]
    due: list[tuple[float, int]] = [(p.arrives_at, i) for i, p in enumerate(players)]
    heapq.heapify(due)
    active: dict[str, int] = {}
    started_at = engine.now_seconds
    finished = output_tokens = idle_steps = 0
    while due or active or engine.has_work():
        while due and due[0][0] <= engine.now_seconds:
            _, index = heapq.heappop(due)
            player = players[index]
            player.submit(engine)
            active[player.request_id] = index
        if not engine.has_work():
            if not due:
                break
            engine.now_seconds = due[0][0]
            continue
        outputs = engine.step(due[0][0] if due else float("inf"))
        idle_steps = 0 if outputs or due else idle_steps + 1
        if idle_steps > STUCK_STEPS:
            raise ReplayError(
                f"{len(active)} sessions wait for ever at {engine.now_seconds:.1f} s: "
                f"{', '.join(list(active)[:5])}"
            )
        for request_id, tokens, over in outputs:
            index = active[request_id]
            player = players[index]
            player.receive(tokens, over, engine.now_seconds)
            output_tokens += tokens
            if not over:
                continue
            del active[request_id]
            pause_seconds = player.turns[-1].segment.pause_seconds
            if pause_seconds is not None:
                engine.pause_ends[request_id] = engine.now_seconds + pause_seconds
                heapq.heappush(due, (engine.now_seconds + pause_seconds, index))
                continue
            finished += 1
            if in_place:
                engine.close(request_id)
        if on_progress is not None and engine.steps % PROGRESS_STEPS == 0:
            started = sum(bool(player.turns) for player in players)
            on_progress(ReplayProgress(len(players), started, finished, output_tokens))
    return ReplayRecord(
        tuple(player.record() for player in players), started_at, engine.now_seconds
    )
