"""Requests that never pause take stock vLLM's path: the same schedule, step for step."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutput

from engine.virtual.engine import Shape, VirtualEngine
from engine.virtual.harness import Client, Harness, Transcript
from engine.virtual.runners import RunnerVersion
from support.draws import seeds


@dataclass(frozen=True, slots=True)
class Step:
    """What one step decided, for all requests, in order."""

    scheduled: dict[str, int]
    order: list[str]
    new: list[str]
    resumed: set[str]
    preempted: list[str]
    finished: set[str]
    running: list[str]
    waiting: list[str]
    block_tables: dict[str, list[int]]
    free_blocks: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a workload."""

    seconds: float
    request_id: str
    prompt: list[int]
    max_tokens: int
    priority: int
    aborted_after_seconds: float | None


class OneRequest(Client):
    """Sends one request and checks its answer."""

    def __init__(self, harness: Harness, arrival: Arrival) -> None:
        self.transcript = Transcript(arrival.prompt)
        self._harness = harness
        self._arrival = arrival
        harness.send(
            self,
            harness.engine.request(
                arrival.request_id,
                arrival.prompt,
                max_tokens=arrival.max_tokens,
                stop_tokens=range(3),
                priority=arrival.priority,
            ),
        )
        if arrival.aborted_after_seconds is not None:
            harness.after(arrival.aborted_after_seconds, self._abort)

    def receive(self, output: EngineCoreOutput) -> None:
        self.transcript.take(output.request_id, output.new_token_ids)
        if output.finish_reason is not None:
            self.done = True
            del self._harness.clients[output.request_id]

    def _abort(self) -> None:
        if not self.done:
            self.done = True
            self._harness.abort(self._arrival.request_id, mid_step=True)


def workload(seed: int, shape: Shape) -> list[Arrival]:
    """Too many requests for the pool, with shared prefixes, priorities and aborts."""
    rng = random.Random(seed)
    prefixes = [[rng.randrange(64) for _ in range(rng.choice((0, 20, 50)))] for _ in range(3)]
    arrivals: list[Arrival] = []
    for number in range(rng.randint(4, 24)):
        own = [rng.randrange(64) for _ in range(rng.randint(1, 100))]
        prompt = [*rng.choice(prefixes), *own][: shape.max_model_len - 1]
        aborted = rng.uniform(0, 0.5) if rng.random() < 0.15 else None
        arrivals.append(
            Arrival(
                rng.uniform(0, 1.0),
                f"request-{number}",
                prompt,
                rng.randint(1, 60),
                rng.randrange(3),
                aborted,
            )
        )
    return arrivals


def schedule_of(shape: Shape, seed: int, *, stock: bool) -> list[Step]:
    """Every step of a workload on stock vLLM's scheduler or on ours."""
    engine = VirtualEngine(shape, random.Random(seed), stock=stock)
    harness = Harness(engine)
    steps: list[Step] = []

    def record(output: SchedulerOutput) -> None:
        scheduler = engine.scheduler
        manager = scheduler.kv_cache_manager
        queued = (*scheduler.kv_holding_waiting, *scheduler.waiting)
        steps.append(
            Step(
                scheduled=dict(output.num_scheduled_tokens),
                order=list(output.num_scheduled_tokens),
                new=[data.req_id for data in output.scheduled_new_reqs],
                resumed=set(output.scheduled_cached_reqs.resumed_req_ids),
                preempted=sorted(output.preempted_req_ids or ()),
                finished=set(output.finished_req_ids),
                running=[request.request_id for request in scheduler.running],
                waiting=[request.request_id for request in queued],
                block_tables={
                    request_id: list(manager.get_block_ids(request_id)[0])
                    for request_id in scheduler.requests
                },
                free_blocks=manager.block_pool.get_num_free_blocks(),
            )
        )

    engine.on_schedule = record
    clients: list[OneRequest] = []

    def starter(arrival: Arrival) -> Callable[[], None]:
        return lambda: clients.append(OneRequest(harness, arrival))

    for arrival in workload(seed, shape):
        harness.after(arrival.seconds, starter(arrival))
    harness.run()
    assert all(client.done for client in clients)
    return steps


@pytest.mark.fuzz
@pytest.mark.parametrize("queue", ["fcfs", "priority"])
@pytest.mark.parametrize("connected", [False, True], ids=["device-only", "host-copies"])
@pytest.mark.parametrize("runner", list(RunnerVersion))
@pytest.mark.parametrize("in_flight", [1, 2], ids=["sync", "async"])
def test_without_pauses_the_schedule_is_stock_vllms(
    in_flight: int, runner: RunnerVersion, connected: bool, queue: str
) -> None:
    preempted = 0
    for seed in seeds(6):
        shape = Shape(
            blocks=(12, 16, 24)[seed % 3],
            max_num_seqs=(3, 8)[seed % 2],
            max_num_batched_tokens=(48, 200)[seed // 3 % 2],
            max_model_len=180,
            in_flight=in_flight,
            runner=runner,
            connected=connected,
            host_blocks=32 if connected else 0,
            queue=queue,
            options={"policy": "swap" if connected else "preserve"},
        )
        stock = schedule_of(shape, seed, stock=True)
        ours = schedule_of(shape, seed, stock=False)
        for number, (expected, found) in enumerate(zip(stock, ours, strict=False)):
            assert found == expected, f"seed {seed}: step {number} differs"
        assert len(ours) == len(stock)
        preempted += sum(len(step.preempted) for step in stock)
    assert preempted > 0, "the workloads are to preempt"
