"""Requests that lack blocks, until they get them: how long they have waited, and for how many."""

from collections.abc import Callable
from dataclasses import dataclass, field

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.request import Request

from caesura.engine.pauses.holds import References
from caesura.engine.pauses.keeper import PauseKeeper
from caesura.engine.pauses.pause import HoldEnding
from caesura.policy import Demand

RETRY_SECONDS = 0.01
"""A waiting request that no hold gives way to asks the policy again after this time."""


@dataclass(slots=True)
class _Unmet:
    """A demand that has not been met.

    Attributes:
        since_seconds: when the request lacked blocks first.
        retry_seconds: when the policy is asked again.
        missing_blocks: how many blocks it lacked the last time.
    """

    since_seconds: float
    retry_seconds: float
    missing_blocks: int = 0


@dataclass(slots=True, eq=False)
class Demands:
    """Breaks holds for requests that lack blocks, as the policy ranks them."""

    keeper: PauseKeeper
    pool: BlockPool
    block_size: int
    clock: Callable[[], float]
    _unmet: dict[str, _Unmet] = field(default_factory=dict, init=False)  # by request

    def reclaim(self, request: Request, missing_blocks: int, *, running: bool, idle: bool) -> bool:
        """Free blocks for a request.

        Args:
            request: it lacks blocks.
            missing_blocks: how many.
            running: it is running; else it waits to be admitted.
            idle: nothing runs.

        Returns:
            Whether enough was freed to try again. The demand lasts until `forget`.
        """
        wanted = self.pool.get_num_free_blocks() + missing_blocks
        self.keeper.contexts.transfers.prefetches.cut_all_short()
        if self.pool.get_num_free_blocks() >= wanted:
            return True
        now = self.clock()
        unmet = self._unmet.setdefault(request.request_id, _Unmet(now, now))
        if now < unmet.retry_seconds and not running:
            return False
        demand = Demand(
            request_id=request.request_id,
            tokens=missing_blocks * self.block_size,
            running=running,
            arrival_seconds=request.arrival_time,
            waited_seconds=now - unmet.since_seconds,
            engine_idle=idle,
        )
        if self._break_holds(demand, wanted):
            return True
        unmet.retry_seconds = now + RETRY_SECONDS
        unmet.missing_blocks = wanted - self.pool.get_num_free_blocks()
        return False

    def _break_holds(self, demand: Demand, wanted_blocks: int) -> bool:
        own = self.keeper.table.claimed_by(demand.request_id)
        own_action = None
        for action in self.keeper.policy.plan(self.keeper.snapshots.take(demand)).actions:
            if own is not None and action.pause_id == own.id:
                own_action = action
                continue
            self.keeper.act(action, HoldEnding.RELEASED)
            if self.pool.get_num_free_blocks() >= wanted_blocks:
                return True
        if own_action is not None and own is not None and isinstance(own.hold, References):
            # Everything else is gone. The hold may be on blocks that the prefix cache has twice,
            # and gives the request the other ones: it must not wait for its own hold.
            self.keeper.act(own_action, HoldEnding.RELEASED)
            return True
        return False

    def missing_blocks(self, request_id: str) -> int:
        """Blocks that a waiting request lacked when it was last tried and got none."""
        unmet = self._unmet.get(request_id)
        return unmet.missing_blocks if unmet is not None else 0

    def forget(self, request_id: str) -> None:
        """The request no longer lacks blocks, or is gone."""
        self._unmet.pop(request_id, None)

    def is_empty(self) -> bool:
        """Whether no request lacks blocks (integrity check)."""
        return not self._unmet
