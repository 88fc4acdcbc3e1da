"""A trace of one engine: iterations, copies, pauses and what is decided about them.

By default a scheduler has `NO_TRACE`, which does nothing, or else a `TraceRecorder`. Times are
the scheduler's: a copy lasts until its workers' report is taken, at the end of an iteration.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from caesura.engine.config import block_bytes
from caesura.engine.copies.batch import CopyBatch, CopyListener
from caesura.engine.guard import Aside
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.pauses.pause import HoldEnding, Pause, PauseEnding, PauseListener
from caesura.engine.tracing.trace_events import (
    MAX_EVENTS,
    Args,
    TraceEvents,
    engine_path,
    section_path,
)
from caesura.policy import Action, Disposition, Drop, Expire
from caesura.policy.profile import attention_pairs

ITERATIONS = "iterations"
COPIES_OUT, COPIES_IN, COPIES_URGENT = "copies out", "copies in", "urgent copies"
STILL_OPEN = "open when the trace was written"

_QUIET_ENDINGS = (HoldEnding.RESUMED, HoldEnding.CANCELLED)  # the end of the pause says it

Levels = dict[str, dict[str, int]]
"""Counters by group and name."""


class Trace(PauseListener, CopyListener):
    """Receives the events of an engine. This one ignores them."""

    def scheduled(self, output: SchedulerOutput, requests: Mapping[str, Request]) -> None:
        """An iteration was scheduled; those under way end in this order."""

    def iterated(self, began_seconds: float, ended_seconds: float) -> None:
        """The results of the first iteration under way were taken."""

    def belongs_to(self, request_id: str, session: str) -> None:
        """A request is a turn of a session."""

    def write(self) -> None:
        """Write what happened since the last time as a section, and start the next."""


NO_TRACE = Trace()
_EVENTS = [name for name in dir(Trace) if not name.startswith("_")]


@dataclass(frozen=True, slots=True)
class _Work:
    """What an iteration computes, in tokens; the three after the first make it up.

    The rest is what `DeviceProfile.iteration_seconds` takes beside it, and the bytes that its
    copies move on each rank.
    """

    query: int
    prefill: int
    decode: int
    recomputed: int
    requests: int
    context: int
    pairs: int
    copied_bytes: int

    @property
    def name(self) -> str:
        if self.recomputed:
            return "recompute"
        return "prefill" if self.prefill else "decode"


@dataclass(slots=True)
class _OpenPause:
    pause: Pause
    session: str
    claimed_seconds: float | None = None
    found: tuple[int, int] | None = None  # tokens held, loaded


class TraceRecorder(Trace):
    """Records events in sections, each of which `write` writes to a file of its own.

    Args:
        path: the first section; see `section_path` for those after it.
        name: what is traced, for people.
        clock: the scheduler's.
        levels: reads the counters.
        block_bytes: size of a block, on one rank.
        max_events: kept per section.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        clock: Callable[[], float],
        levels: Callable[[], Levels],
        block_bytes: int,
        max_events: int = MAX_EVENTS,
    ) -> None:
        self._path = path
        self._name = name
        self._clock = clock
        self._levels = levels
        self._block_bytes = block_bytes
        self._max_events = max_events
        self._section = 0
        self._under_way: deque[_Work | None] = deque()
        self._copied_blocks = 0  # by the iteration that is being scheduled
        self._begin_section()

    def _begin_section(self) -> None:
        self._events = TraceEvents(self._name, self._clock(), self._max_events)
        self._events.name_track(ITERATIONS)
        self._open: dict[str, _OpenPause] = {}  # by pause
        self._sessions: dict[str, str] = {}  # by request
        self._computed: dict[str, int] = {}  # tokens that a session has had computed
        self._batches: dict[int, tuple[float, CopyBatch]] = {}

    # Iterations

    def scheduled(self, output: SchedulerOutput, requests: Mapping[str, Request]) -> None:
        """See `Trace`. A token is recomputed if its session had that position before."""
        tokens = output.total_num_scheduled_tokens
        copied_blocks, self._copied_blocks = self._copied_blocks, 0
        if self._events.full or not tokens:
            self._under_way.append(None)
            return
        starts = computed_before(output)
        context, pairs = attention_of(output)
        recomputed = prefill = 0
        for request_id, count in output.num_scheduled_tokens.items():
            start = starts[request_id]
            session = self._sessions.get(request_id, request_id)
            known = self._computed.get(session, 0)
            stop = start + count
            if stop > known:
                self._computed[session] = stop
            new = max(start, min(known, stop))
            recomputed += new - start
            prefill += max(0, min(stop, requests[request_id].num_prompt_tokens) - new)
        decode = tokens - prefill - recomputed
        copied_bytes = copied_blocks * self._block_bytes
        self._under_way.append(
            _Work(tokens, prefill, decode, recomputed, len(starts), context, pairs, copied_bytes)
        )

    def iterated(self, began_seconds: float, ended_seconds: float) -> None:
        """See `Trace`."""
        work = self._under_way.popleft()
        if work is not None:
            args = {
                "query_tokens": work.query,
                "prefill_tokens": work.prefill,
                "decode_tokens": work.decode,
                "recomputed_tokens": work.recomputed,
                "requests": work.requests,
                "context_tokens": work.context,
                "attention_pairs": work.pairs,
                "copied_bytes": work.copied_bytes,
            }
            self._events.slice(ITERATIONS, work.name, began_seconds, ended_seconds, args)
        if not self._events.full:
            for name, values in self._levels().items():
                self._events.levels(name, ended_seconds, values)

    def belongs_to(self, request_id: str, session: str) -> None:
        """See `Trace`."""
        self._sessions[request_id] = session

    # Pauses

    def pause_began(self, pause: Pause) -> None:
        """See `Trace`."""
        if self._events.full:
            return
        session = self._sessions.pop(pause.id, None) or pause.session_id or pause.id
        self._open[pause.id] = _OpenPause(pause, session)
        self._computed.pop(pause.id, None)
        self._computed[session] = pause.context_tokens  # without work that the stop made void

    def decided(self, pause: Pause, action: Action, disposition: Disposition) -> None:
        """See `Trace`."""
        args: dict[str, int | str] = {"held_tokens": pause.held_tokens}
        if isinstance(action, Drop) and action.keep_tokens:
            args["keep_tokens"] = action.keep_tokens
        if isinstance(action, Expire):
            args["expired"] = "yes"
        self._instant(pause, str(disposition), args)

    def hold_broken(self, pause: Pause, ending: HoldEnding, freed_tokens: int) -> None:
        """See `Trace`."""
        if ending not in _QUIET_ENDINGS:
            args = {"freed_tokens": freed_tokens, "held_tokens": pause.held_tokens}
            self._instant(pause, f"hold {ending}", args)

    def prefetched(self, pause: Pause, loaded_tokens: int) -> None:
        """See `Trace`."""
        args: Args = {"loaded_tokens": loaded_tokens, "held_tokens": pause.held_tokens}
        self._instant(pause, "prefetched", args)

    def claimed(self, pause: Pause) -> None:
        """See `Trace`."""
        opened = self._open.get(pause.id)
        if opened is not None and pause.claimed_by is not None:
            opened.claimed_seconds = self._clock()
            self._sessions[pause.claimed_by] = opened.session

    def resumed(self, pause: Pause, held_tokens: int, loaded_tokens: int) -> None:
        """See `Trace`."""
        opened = self._open.get(pause.id)
        if opened is not None:
            opened.found = held_tokens, loaded_tokens

    def pause_ended(self, pause: Pause, ending: PauseEnding) -> None:
        """See `Trace`."""
        opened = self._open.pop(pause.id, None)
        if opened is None:
            return
        self._close(opened, str(ending))
        if ending is not PauseEnding.RESUMED:
            self._computed.pop(opened.session, None)
            self._sessions.pop(pause.claimed_by or pause.id, None)

    def _instant(self, pause: Pause, name: str, args: Args) -> None:
        opened = self._open.get(pause.id)
        if opened is not None:
            self._events.instant(opened.session, name, self._clock(), args)

    def _close(self, opened: _OpenPause, ending: str) -> None:
        pause, now = opened.pause, self._clock()
        args: dict[str, int | str] = {
            "endpoint": pause.endpoint,
            "context_tokens": pause.context_tokens,
            "ending": ending,
            "disposition": str(pause.disposition or "undecided"),
            "copied_tokens": pause.copied_tokens,
        }
        if opened.found is not None:
            held, loaded = opened.found
            args["resumed_from_device"] = held
            args["resumed_from_host"] = loaded
            args["resumed_by_computing"] = pause.context_tokens - held - loaded
        self._events.slice(opened.session, pause.endpoint, pause.paused_seconds, now, args)
        if opened.claimed_seconds is not None:
            self._events.slice(opened.session, "returning", opened.claimed_seconds, now, {})

    # Copies

    def copies_launched(self, batch: CopyBatch) -> None:
        """See `Trace`."""
        self._copied_blocks += batch.num_blocks
        if not self._events.full:
            self._batches[batch.id] = self._clock(), batch

    def copies_finished(self, batch_id: int, succeeded: bool) -> None:
        """See `Trace`."""
        launched = self._batches.pop(batch_id, None)
        if launched is not None:
            self._enter_copies(*launched, "complete" if succeeded else "failed")

    def _enter_copies(self, launched_seconds: float, batch: CopyBatch, ending: str) -> None:
        urgent = len(batch.urgent_stores) + len(batch.urgent_loads)
        for name, blocks in (
            (COPIES_OUT, len(batch.stores)),
            (COPIES_IN, len(batch.loads)),
            (COPIES_URGENT, urgent),
        ):
            if blocks:
                args: Args = {
                    "blocks": blocks,
                    "bytes": blocks * self._block_bytes,
                    "ending": ending,
                }
                now = self._clock()
                self._events.overlapping(name, str(batch.id), launched_seconds, now, args)

    # Files

    def write(self) -> None:
        """See `Trace`. A section in which nothing happened has no file."""
        for opened in self._open.values():
            self._close(opened, STILL_OPEN)
        for launched_seconds, batch in self._batches.values():
            self._enter_copies(launched_seconds, batch, STILL_OPEN)
        if len(self._events):
            self._events.write(section_path(self._path, self._section))
        self._section += 1
        self._begin_section()


def computed_before(output: SchedulerOutput) -> dict[str, int]:
    """Tokens of each request of an iteration that were computed before it."""
    cached = output.scheduled_cached_reqs
    computed = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
    computed.update((data.req_id, data.num_computed_tokens) for data in output.scheduled_new_reqs)
    return computed


def attention_of(output: SchedulerOutput) -> tuple[int, int]:
    """Tokens of context that an iteration's attention reads, with those that it computes, and
    its pairs of prefill attention."""
    scheduled, tokens = output.num_scheduled_tokens, output.total_num_scheduled_tokens
    context = sum(output.scheduled_cached_reqs.num_computed_tokens) + tokens
    context += sum(data.num_computed_tokens for data in output.scheduled_new_reqs)
    if tokens == len(scheduled):
        return context, 0  # one token each: decoding, and a simulation does mostly that
    computed = computed_before(output)
    return context, sum(attention_pairs(n, computed[name]) for name, n in scheduled.items())


def trace_engine(
    scheduler: Scheduler, keeper: PauseKeeper, name: str, clock: Callable[[], float], path: Path
) -> Trace:
    """Record what a scheduler and its keeper do, from now on.

    Args:
        scheduler: any scheduler of vLLM's.
        keeper: its pauses; its listeners are replaced.
        name: what is traced, for people.
        clock: the scheduler's, in monotonic seconds.
        path: file of the first section; see `engine_path` for other engines of a server.
    """
    number = scheduler.vllm_config.parallel_config.data_parallel_index
    trace = TraceRecorder(
        engine_path(path, number),
        name,
        clock,
        lambda: levels_of(scheduler, keeper),
        block_bytes(scheduler.kv_cache_config),
    )
    for name in _EVENTS:
        setattr(trace, name, keeper.metrics.guard.wrap(Aside.TRACE, getattr(trace, name), None))
    keeper.listener = keeper.holding.listener = trace
    keeper.contexts.transfers.listener = trace
    return trace


def levels_of(scheduler: Scheduler, keeper: PauseKeeper | None) -> Levels:
    """Lengths of queues, and memory."""
    running, waiting = scheduler.get_request_counts()
    requests = {"running": running, "waiting": waiting}
    block_size = scheduler.block_size
    free_blocks = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    levels = {"requests": requests, "device tokens": {"free": free_blocks * block_size}}
    if keeper is not None:
        requests["paused"] = len(keeper.table) - keeper.table.returning_count()
        if keeper.contexts.memory().total_tokens:
            levels["host tokens"] = {"used": keeper.contexts.used_tokens()}
    return levels
