"""Clients of a virtual engine, in virtual time.

The clock moves with the engine's steps; when the engine is idle, it jumps to the next thing
that a client does.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.request import Request, RequestStatus

from caesura.engine.protocol import DETACHED
from caesura.engine.scheduler import InterceptScheduler
from engine.virtual.device import chain_of, extend_chain, next_token
from engine.virtual.engine import VirtualEngine


class Stuck(AssertionError):
    """Nobody gets any further."""


class Transcript:
    """A client's own record, and what must come next."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)
        self._chain = chain_of(tokens)

    def append(self, tokens: Sequence[int]) -> None:
        """The client adds tokens."""
        self.tokens += tokens
        extend_chain(self._chain, tokens)

    def take(self, request_id: str, tokens: Sequence[int]) -> None:
        """The engine adds tokens: exactly those that follow."""
        for token in tokens:
            expected = next_token(self._chain)
            assert token == expected, (
                f"{request_id} got {token} for {expected} after {len(self.tokens)} tokens"
            )
            self.append([token])


class Harness:
    """An engine and its clients in virtual time.

    Attributes:
        patience_seconds: virtual time without any output after which the engine is stuck.
    """

    patience_seconds = 30.0

    def __init__(self, engine: VirtualEngine) -> None:
        self.engine = engine
        self.clients: dict[str, Client] = {}
        self.steps = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    @property
    def now_seconds(self) -> float:
        return self.engine.now_seconds

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        due = self.now_seconds + seconds
        heapq.heappush(self._events, (due, next(self._order), action))

    def send(self, client: "Client", request: Request) -> None:
        """A request of a client arrives."""
        self.clients[request.request_id] = client
        self.engine.scheduler.add_request(request)

    def abort(self, request_id: str, *, mid_step: bool) -> None:
        """A client goes away; nothing may be sent to it any more."""
        del self.clients[request_id]
        if mid_step and self.engine.has_work():
            self.engine.aborts.append(request_id)
        else:
            self.engine.scheduler.finish_requests(request_id, RequestStatus.FINISHED_ABORTED)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run until nothing is left to do, or until something has happened."""
        last_progress = self.now_seconds
        while not until():
            while self._events and self._events[0][0] <= self.now_seconds:
                _, _, action = heapq.heappop(self._events)
                action()
                last_progress = self.now_seconds
            if self.engine.has_work():
                outputs = self.engine.step()
                self.steps += 1
                for output in outputs:
                    last_progress = self.now_seconds
                    self._route(output)
            elif self._events:
                self.engine.check_contents()
                self.engine.now_seconds = max(self.now_seconds, self._events[0][0])
            else:
                self.engine.check_contents()
                return
            if self.now_seconds - last_progress > self.patience_seconds:
                raise Stuck(self.describe())

    def _route(self, output: EngineCoreOutput) -> None:
        client = self.clients.get(output.request_id)
        if client is None and output.stop_reason == DETACHED:
            return  # the session was closed in the same step
        assert client is not None or output.request_id in self.engine.aborts, (
            f"{output.request_id} gets outputs after its end"
        )
        if client is not None:
            client.receive(output)

    def describe(self) -> str:
        """Where everybody is, for the message of a failure."""
        scheduler = self.engine.scheduler
        free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        lines = [f"after {self.steps} steps, {free} of {self.engine.shape.blocks} blocks free"]
        for request in scheduler.requests.values():
            tables = scheduler.kv_cache_manager.get_blocks(request.request_id).blocks
            owned = sum(not block.is_null for table in tables for block in table)
            lines.append(
                f"  {request.request_id}: {request.status!s}, {request.num_computed_tokens} of "
                f"{request.num_tokens} tokens computed, {owned} blocks"
            )
        if isinstance(scheduler, InterceptScheduler):
            lines += [
                f"  pause {pause.id}: claimed by {pause.claimed_by}, holds {pause.held_tokens}"
                for pause in scheduler.keeper.table
            ]
        return "\n".join(lines)


class Client:
    """Receives outputs."""

    done = False

    def receive(self, output: EngineCoreOutput) -> None:
        raise NotImplementedError
