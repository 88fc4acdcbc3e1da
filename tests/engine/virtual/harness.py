"""An engine in virtual time: the production scheduler, a virtual device, scripted clients.

`VirtualEngine` steps as vLLM's engine core does, with one step or two in flight. Nothing
sleeps: a step advances the clock, and an idle engine jumps to the next thing a client does.
"""

import copy
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from unittest.mock import patch

import torch
import vllm.envs
from engine.virtual.device import (
    CopyBehaviour,
    Launched,
    RunnerVersion,
    VirtualDevice,
    chain_of,
    extend_chain,
    next_token,
)
from vllm.config import KVTransferConfig, VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import SamplingParams
from vllm.v1.core.kv_cache_utils import BlockHash, get_block_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheTensor,
)
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from caesura.demo.model import demo_model_path
from caesura.engine.config import SECTION
from caesura.engine.flags import kv_transfer_config
from caesura.engine.integrity import check_idle
from caesura.engine.protocol import DETACHED, ENDPOINT_ARGUMENT, INTERRUPTED
from caesura.engine.scheduler import InterceptScheduler

BLOCK_SIZE = 16
FIRST_SECONDS = 1000.0


class Stuck(AssertionError):
    """Nobody gets any further."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An engine: its size, its pipeline and its options.

    Attributes:
        blocks: device blocks that requests can use (one more is vLLM's null block).
        in_flight: steps under way at most: 1 is synchronous, 2 asynchronous scheduling.
        connected: a connector is configured.
        host_blocks: host slots; 0 without a connector.
        budget_blocks: blocks copied per step at most.
        queue: vLLM's scheduling policy, "fcfs" or "priority".
        options: Caesura's options beside those that follow from the rest.
    """

    blocks: int = 48
    max_num_seqs: int = 4
    max_num_batched_tokens: int = 64
    max_model_len: int = 256
    in_flight: int = 1
    runner: RunnerVersion = RunnerVersion.V1
    connected: bool = False
    host_blocks: int = 0
    budget_blocks: int = 4
    queue: str = "fcfs"
    copies: CopyBehaviour = CopyBehaviour()
    options: dict[str, object] = field(default_factory=lambda: {"policy": "preserve"})

    def __post_init__(self) -> None:
        assert self.blocks * BLOCK_SIZE >= self.max_model_len, "a request must fit the pool"


@cache
def base_config() -> VllmConfig:
    """vLLM's configuration for a small model: slow to make, so it is made once."""
    arguments = EngineArgs(
        model=str(demo_model_path()),
        block_size=BLOCK_SIZE,
        enforce_eager=True,
        skip_tokenizer_init=True,
        distributed_executor_backend="uni",
    )
    return arguments.create_engine_config()


@cache
def _structured_output_manager() -> StructuredOutputManager:
    return StructuredOutputManager(base_config())


def kv_cache_config(blocks: int) -> KVCacheConfig:
    """One layer of full attention in `blocks` blocks."""
    spec = FullAttentionSpec(
        block_size=BLOCK_SIZE, num_kv_heads=1, head_size=1, dtype=torch.float32
    )
    page = spec.page_size_bytes
    tensor = KVCacheTensor(
        size=blocks * page, layers=["layer"], layer_stride=blocks * page, block_stride=page
    )
    return KVCacheConfig(
        num_blocks=blocks,
        kv_cache_tensors=[tensor],
        kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
    )


def vllm_config(shape: Shape, cache_config: KVCacheConfig) -> VllmConfig:
    """vLLM's configuration of an engine of that shape."""
    config = copy.copy(base_config())
    page = cache_config.kv_cache_groups[0].kv_cache_spec.page_size_bytes
    config.model_config = copy.copy(config.model_config)
    config.model_config.max_model_len = shape.max_model_len
    config.scheduler_config = copy.copy(config.scheduler_config)
    config.scheduler_config.max_num_seqs = shape.max_num_seqs
    config.scheduler_config.max_num_batched_tokens = shape.max_num_batched_tokens
    config.scheduler_config.max_num_scheduled_tokens = None
    config.scheduler_config.async_scheduling = shape.in_flight > 1
    config.scheduler_config.policy = shape.queue
    config.scheduler_config.disable_hybrid_kv_cache_manager = True
    config.cache_config = copy.copy(config.cache_config)
    config.cache_config.num_gpu_blocks = cache_config.num_blocks
    if shape.connected:
        config.kv_transfer_config = KVTransferConfig(**kv_transfer_config())
    config.additional_config = {
        SECTION: {
            "host_memory": shape.host_blocks * page,
            "copy_budget": shape.budget_blocks * page,
            "load_in_step": False,
            **shape.options,
        }
    }
    return config


class VirtualClockScheduler(InterceptScheduler):
    """The production scheduler on another clock."""

    def __init__(self, *args: object, clock: Callable[[], float], **kwargs: object) -> None:
        self.clock = clock
        super().__init__(*args, **kwargs)


class VirtualEngine:
    """vLLM's engine core around a virtual device.

    Args:
        shape: what engine.
        rng: decides what the device leaves open.
        stock: vLLM's own scheduler instead of ours.
    """

    def __init__(self, shape: Shape, rng: random.Random, *, stock: bool = False) -> None:
        self.shape = shape
        self.now_seconds = FIRST_SECONDS
        self.aborts: list[str] = []
        self.on_schedule: Callable[[SchedulerOutput], None] | None = None
        cache_config = kv_cache_config(shape.blocks + 1)
        config = vllm_config(shape, cache_config)
        arguments = (config, cache_config, _structured_output_manager(), BLOCK_SIZE)
        with patch.object(
            vllm.envs, "VLLM_USE_V2_MODEL_RUNNER", shape.runner is RunnerVersion.V2
        ):
            self.scheduler: AsyncScheduler = (
                AsyncScheduler(*arguments)
                if stock
                else VirtualClockScheduler(*arguments, clock=lambda: self.now_seconds)
            )
        assert self.scheduler.use_v2_model_runner == (shape.runner is RunnerVersion.V2)
        self.device = VirtualDevice(
            shape.blocks + 1,
            BLOCK_SIZE,
            shape.host_blocks,
            shape.max_num_seqs,
            shape.runner,
            asynchronous=shape.in_flight > 1,
            copies=shape.copies,
            rng=rng,
        )
        self._queue: deque[tuple[SchedulerOutput, Launched]] = deque()
        self._contents: dict[BlockHash, list[int]] = {}
        self._rng = rng

    def request(
        self,
        request_id: str,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        stop_tokens: Sequence[int] = (),
        resumable: bool = False,
        session_id: str | None = None,
        endpoint: str | None = None,
        priority: int = 0,
    ) -> Request:
        """A request that arrives now."""
        return Request(
            request_id=request_id,
            prompt_token_ids=list(prompt),
            sampling_params=SamplingParams(
                max_tokens=max_tokens,
                stop_token_ids=list(stop_tokens),
                extra_args={ENDPOINT_ARGUMENT: endpoint} if endpoint else None,
            ),
            pooling_params=None,
            arrival_time=self.now_seconds,
            priority=priority,
            block_hasher=self._hash_blocks,
            resumable=resumable,
            session_id=session_id,
        )

    def has_work(self) -> bool:
        """Whether the engine core would step."""
        return self.scheduler.has_requests() or bool(self._queue)

    def step(self) -> list[EngineCoreOutput]:
        """Step once; with several steps in flight there may be no output yet."""
        if self.scheduler.has_requests():
            output = self.scheduler.schedule()
            if self.on_schedule is not None:
                self.on_schedule(output)
            self._queue.append((output, self.device.launch(output)))
            self.now_seconds += 0.004 + 1e-4 * output.total_num_scheduled_tokens
            executed = output.total_num_scheduled_tokens > 0
            if len(self._queue) < self.shape.in_flight and (
                executed or self.scheduler.has_requests()
            ):
                return []
        output, launched = self._queue.popleft()
        result = self.device.result(launched)
        aborts, self.aborts = self.aborts, []
        if aborts:
            self.scheduler.finish_requests(aborts, RequestStatus.FINISHED_ABORTED)
        outputs = self.scheduler.update_from_output(output, result)
        return _flat(outputs)

    def _hash_blocks(self, request: Request) -> list[BlockHash]:
        """Hashes of a request's new full blocks: what the last slot of each must hold."""
        hashes: list[BlockHash] = []
        chain = list(self._contents[request.block_hashes[-1]][-1:]) if request.block_hashes else []
        start = len(request.block_hashes) * BLOCK_SIZE
        for first in range(start, request.num_tokens - BLOCK_SIZE + 1, BLOCK_SIZE):
            extend_chain(chain, request.all_token_ids[first : first + BLOCK_SIZE])
            block_hash = BlockHash(chain[-1].to_bytes(8))
            self._contents[block_hash] = chain[-BLOCK_SIZE:]
            hashes.append(block_hash)
        return hashes

    def check_contents(self) -> None:
        """When nothing is under way: what can be found by its hash is what the hash says."""
        if self._queue or self.device.copying:
            return
        for block in self.scheduler.kv_cache_manager.block_pool.blocks:
            if block.block_hash is not None:
                expected = self._contents[get_block_hash(block.block_hash)]
                assert self.device.blocks[block.block_id] == expected, f"{block} is not its hash"
        if isinstance(self.scheduler, InterceptScheduler) and self.scheduler.keeper.transfers:
            for block_hash, slot in self.scheduler.keeper.transfers.host._slots.items():
                if slot.filled:
                    found = self.device.host[slot.index]
                    assert found == self._contents[block_hash], f"host slot {slot} is not its hash"

    def idle_books(self) -> None:
        """At the end: nothing is left of anybody, on the device, in host memory, anywhere."""
        scheduler = self.scheduler
        assert isinstance(scheduler, InterceptScheduler)
        assert not self.has_work()
        check_idle(scheduler)
        for pause in list(scheduler.keeper.table):
            scheduler.keeper.cancel(pause)
        check_idle(scheduler)
        pool = scheduler.kv_cache_manager.block_pool
        assert pool.get_num_free_blocks() == self.shape.blocks, "device blocks are lost"
        transfers = scheduler.keeper.transfers
        if transfers is not None:
            assert transfers.host.pinned_slots == 0, "host slots stay pinned"
            assert transfers.host.available_slots == self.shape.host_blocks, "slots are lost"
        assert not scheduler._inflight_prefills
        assert not scheduler.deferred_waiting
        self.device.launch(scheduler.schedule())  # tells the runner who is gone
        assert self.device.runner.slots_used() == 0, "the model runner keeps requests"


def _flat(outputs: dict[int, EngineCoreOutputs]) -> list[EngineCoreOutput]:
    return [output for of_client in outputs.values() for output in of_client.outputs]


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
            owned = len(scheduler.kv_cache_manager.get_blocks(request.request_id).blocks[0])
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


@dataclass(frozen=True, slots=True)
class Habits:
    """What clients do. Times are in virtual seconds, rates between 0 and 1.

    Attributes:
        stop_tokens: tokens that end a turn: about `len(stop_tokens) / 64` of all.
        most_appended: tokens appended by a tool, at most.
        restart: after an abort, the conversation is submitted again.
    """

    max_tokens: int = 24
    stop_tokens: tuple[int, ...] = (1, 2, 3)
    most_appended: int = 40
    think_seconds: float = 0.5
    interrupt_rate: float = 0.3
    abort_rate: float = 0.05
    close_early_rate: float = 0.1
    fork_rate: float = 0.15
    diverge_rate: float = 0.15
    session_id_rate: float = 0.5
    endpoint_rate: float = 0.6
    priorities: int = 1


class SessionClient(Client):
    """A session in place: opened once, extended while parked or in the middle of a turn."""

    def __init__(
        self,
        harness: Harness,
        name: str,
        prompt: Sequence[int],
        turns: int,
        habits: Habits,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.request_id = name
        self.transcript = Transcript(prompt)
        self.appended = 1
        self.finished = 0
        self.stop_reasons: list[int | str | None] = []
        self._harness = harness
        self._turns = turns
        self._interrupts = 2 * turns
        self._habits = habits
        self._rng = rng
        self._pending: deque[list[int]] = deque()
        self._generating = True
        self._closing = False
        self._priority = rng.randrange(habits.priorities)
        self._send(prompt)
        if rng.random() < habits.abort_rate:
            harness.after(rng.uniform(0, 4 * habits.think_seconds + 0.2), self.abort)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens, whatever the session is doing."""
        assert not self.done
        self.appended += 1
        if self._generating:
            self._pending.append(list(tokens))
        else:
            self.transcript.append(tokens)
            self._generating = True
        if self.request_id not in self._harness.clients:  # it was detached: open it again
            self.request_id += "'"
            tokens = self.transcript.tokens
            if len(tokens) >= self._harness.engine.shape.max_model_len:
                self._end()
                return
        self._send(tokens)

    def close(self) -> None:
        """No more tokens will come."""
        if self.done or self._closing:
            return
        self._closing = True
        if self.request_id not in self._harness.clients:
            self._end()
            return
        self._harness.engine.scheduler.add_request(self._request((), resumable=False))
        if not self._generating:
            self._end()

    def abort(self) -> None:
        """Go away at any moment."""
        if not self.done:
            self.done = True
            if self.request_id in self._harness.clients:
                self._harness.abort(self.request_id, mid_step=self._rng.random() < 0.5)

    def receive(self, output: EngineCoreOutput) -> None:
        if output.stop_reason == DETACHED:
            assert not self._generating, f"{self.name} was detached while it generates"
            del self._harness.clients[self.request_id]
            return
        assert self._generating, f"{self.name} generates without being asked"
        self.transcript.take(self.name, output.new_token_ids)
        if output.finish_reason is None:
            return
        self.finished += 1
        self.stop_reasons.append(output.stop_reason)
        assert (output.stop_reason == INTERRUPTED) <= bool(self._pending)
        if output.finish_reason is FinishReason.ERROR:
            shape = self._harness.engine.shape
            assert len(self.transcript.tokens) >= shape.max_model_len, f"{self.name} failed"
            self._end()
            return
        if self._pending:
            self.transcript.append(self._pending.popleft())
            return
        self._generating = False
        if self._closing:
            self._end()
        elif self._harness_turns_left():
            self._think()
        else:
            self._harness.after(0, self.close)

    def _harness_turns_left(self) -> bool:
        self._turns -= 1
        return self._turns > 0

    def _think(self) -> None:
        seconds = self._rng.expovariate(1 / self._habits.think_seconds)
        if self._rng.random() < self._habits.close_early_rate:
            self._harness.after(seconds, self.close)
        self._harness.after(seconds, self._tool_returns)

    def _tool_returns(self) -> None:
        if not self.done and not self._closing:
            self.extend(self._words())

    def _interrupt(self) -> None:
        if not self.done and not self._closing and self._generating:
            self.extend(self._words())

    def _words(self) -> list[int]:
        count = self._rng.randint(1, self._habits.most_appended)
        return [self._rng.randrange(64) for _ in range(count)]

    def _send(self, tokens: Sequence[int]) -> None:
        self._harness.send(self, self._request(tokens, resumable=True))
        for _ in range(2):
            if self._interrupts > 0 and self._rng.random() < self._habits.interrupt_rate:
                self._interrupts -= 1
                self._harness.after(self._rng.uniform(0, 0.3), self._interrupt)

    def _request(self, tokens: Sequence[int], *, resumable: bool) -> Request:
        return self._harness.engine.request(
            self.request_id,
            tokens,
            max_tokens=self._rng.randint(1, self._habits.max_tokens),
            stop_tokens=self._habits.stop_tokens,
            resumable=resumable,
            priority=self._priority,
        )

    def _end(self) -> None:
        self.done = True
        assert self._closing or self.finished <= self.appended
        self._harness.clients.pop(self.request_id, None)


class ConversationClient(Client):
    """A client that runs its own tools: each turn is a request that extends the last one."""

    _ids = itertools.count()

    def __init__(
        self,
        harness: Harness,
        name: str,
        prompt: Sequence[int],
        turns: int,
        habits: Habits,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.transcript = Transcript(prompt)
        self.forks: list[ConversationClient] = []
        self._harness = harness
        self._turns = turns
        self._habits = habits
        self._rng = rng
        self._session_id = name if rng.random() < habits.session_id_rate else None
        self._priority = rng.randrange(habits.priorities)
        self._requests = 0
        self._request_id = ""
        self._prompt_tokens = 0
        self._submit()

    def receive(self, output: EngineCoreOutput) -> None:
        assert output.request_id == self._request_id, f"{output.request_id} was answered before"
        self.transcript.take(output.request_id, output.new_token_ids)
        if output.finish_reason is None:
            return
        assert output.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        del self._harness.clients[self._request_id]
        self._next_turn()

    def _next_turn(self) -> None:
        self._turns -= 1
        if self._turns <= 0:
            self.done = True
            return
        seconds = self._rng.expovariate(1 / self._habits.think_seconds)
        self._harness.after(seconds, self._continue)
        if self._rng.random() < self._habits.fork_rate:
            self._harness.after(seconds * self._rng.choice((0.5, 1.0, 2.0)), self._fork)

    def _continue(self) -> None:
        tokens = self.transcript.tokens
        if self._rng.random() < self._habits.diverge_rate:
            # The client renders the history differently from some token on.
            self.transcript = Transcript(tokens[: self._rng.randint(1, len(tokens))])
        count = self._rng.randint(1, self._habits.most_appended)
        self.transcript.append([self._rng.randrange(64) for _ in range(count)])
        self._submit()

    def _fork(self) -> None:
        tokens = [*self.transcript.tokens, self._rng.randrange(64)]
        if len(tokens) < self._harness.engine.shape.max_model_len:
            name = f"{self.name}+{len(self.forks)}"
            self.forks.append(
                ConversationClient(self._harness, name, tokens, 1, self._habits, self._rng)
            )

    def _submit(self) -> None:
        if len(self.transcript.tokens) >= self._harness.engine.shape.max_model_len:
            self.done = True  # a front end refuses such a prompt
            return
        self._request_id = f"{self.name}.{self._requests}"
        self._requests += 1
        self._prompt_tokens = len(self.transcript.tokens)
        endpoint = self._rng.choice(("search", "python", "human"))
        request = self._harness.engine.request(
            self._request_id,
            self.transcript.tokens,
            max_tokens=self._rng.randint(1, self._habits.max_tokens),
            stop_tokens=self._habits.stop_tokens,
            session_id=self._session_id,
            endpoint=endpoint if self._rng.random() < self._habits.endpoint_rate else None,
            priority=self._priority,
        )
        self._harness.send(self, request)
        if self._rng.random() < self._habits.abort_rate:
            request_id = self._request_id
            self._harness.after(self._rng.uniform(0, 1.0), lambda: self._abort(request_id))

    def _abort(self, request_id: str) -> None:
        if self.done or request_id not in self._harness.clients:
            return
        self._harness.abort(request_id, mid_step=self._rng.random() < 0.5)
        self._request_id = ""
        self._next_turn()
