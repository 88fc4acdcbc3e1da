"""InferCept on the real scheduler: its limits on an iteration, and its queues."""

from vllm.v1.core.sched.output import SchedulerOutput

from caesura.engine.connector import CaesuraConnector, CopyMetadata
from caesura.engine.pauses.pause import HoldEnding
from caesura.policy import CopyOut, Disposition, Drop, OriginalArrival, SessionOrder
from caesura.policy.infercept import InferCept
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Player, Stage

SATURATION = 32


def stage_of(**shape: object) -> Stage:
    options = {
        "policy": "infercept",
        "policy_options": {"saturation_tokens": SATURATION},
        "check_integrity": True,
    }
    values = {"blocks": 64, "max_num_batched_tokens": 256, "max_model_len": 512, "options": options}
    return Stage(Shape(**{**values, **shape}))  # type: ignore[arg-type]


def computed_per_step(stage: Stage) -> list[int]:
    """Filled with the tokens of each step that computes any."""
    tokens: list[int] = []

    def note(output: SchedulerOutput) -> None:
        if output.total_num_scheduled_tokens:
            tokens.append(output.total_num_scheduled_tokens)

    stage.engine.on_schedule = note
    return tokens


def test_while_sessions_pause_an_iteration_computes_up_to_the_saturation_point() -> None:
    stage = stage_of()
    runs = stage.request("runs", BLOCK_SIZE, max_tokens=400)
    stage.session("tool", BLOCK_SIZE)
    stage.harness.run(until=lambda: stage.scheduler.parking.num_parked() == 1)
    tokens = computed_per_step(stage)
    new = stage.request("new", 200, max_tokens=1)
    stage.harness.run(until=lambda: new.turns == 1)
    assert runs.turns == 0
    # The running request takes one of them.
    assert tokens == [SATURATION] * 6 + [200 - 6 * (SATURATION - 1) + 1]


def test_contexts_are_computed_again_in_chunks_of_the_same_size() -> None:
    stage = stage_of()
    stage.request("runs", BLOCK_SIZE, max_tokens=400)
    stage.session("tool", BLOCK_SIZE)
    dropped = stage.session("dropped", 150)
    stage.harness.run(until=lambda: stage.scheduler.parking.num_parked() == 2)
    stage.scheduler.keeper.act(Drop("dropped", forget=True), HoldEnding.DECIDED)
    tokens = computed_per_step(stage)
    stage.extend(dropped, 5)
    stage.harness.run(until=lambda: dropped.turns == 2)
    assert max(tokens) == SATURATION
    assert sum(tokens) >= 156


def test_without_a_pause_there_is_no_limit() -> None:
    stage = stage_of()
    stage.request("runs", BLOCK_SIZE, max_tokens=400)
    tokens = computed_per_step(stage)
    new = stage.request("new", 200, max_tokens=1)
    stage.harness.run(until=lambda: new.turns == 1)
    assert max(tokens) == 200 + BLOCK_SIZE


def test_an_iteration_copies_what_the_link_moves_while_all_of_it_computes() -> None:
    stage = stage_of(connected=True, host_blocks=64, budget_blocks=32)
    connector = stage.scheduler.connector
    assert isinstance(connector, CaesuraConnector)
    transfers = connector.transfers
    transfers.observe_speed = lambda blocks, seconds: None  # type: ignore[method-assign]
    transfers.seconds_per_block = 0.006
    copied: list[tuple[int, int]] = []

    def note(output: SchedulerOutput) -> None:
        metadata = output.kv_connector_metadata
        assert isinstance(metadata, CopyMetadata)
        tokens = output.total_num_scheduled_tokens
        if metadata.batch is not None and tokens:
            hidden = stage.scheduler.keeper.snapshots.costs().forward_seconds(tokens)
            assert metadata.batch.num_blocks <= max(1, int(hidden / 0.006))
            copied.append((tokens, metadata.batch.num_blocks))

    stage.engine.on_schedule = note
    stage.request("runs", BLOCK_SIZE, max_tokens=200)
    tool = stage.session("tool", 20 * BLOCK_SIZE)
    stage.harness.run(until=lambda: tool.turns == 1)
    stage.request("prompt", 100, max_tokens=1)
    stage.harness.run(until=lambda: len(stage.scheduler.running) == 0)
    pause = stage.scheduler.keeper.table.get("tool")
    assert pause is not None
    assert pause.disposition is Disposition.SWAP
    assert sum(blocks for _, blocks in copied) == 20
    by_tokens = dict(reversed(copied))
    assert by_tokens[1] == 1, "an iteration that only decodes hides little"
    assert by_tokens[SATURATION] == 2, "one with a chunk of a prompt hides more"


def blocked_head(order: SessionOrder) -> tuple[Stage, Player, Player]:
    """Two sessions are back: the first one's context was dropped and does not fit, the second
    one's is in host memory and does."""
    options = {"policy": "engine.virtual.obedient:Obedient", "check_integrity": True}
    stage = stage_of(blocks=40, connected=True, host_blocks=64, budget_blocks=32, options=options)
    stage.scheduler.ranks.order = order
    first, second = stage.session("first", 10 * BLOCK_SIZE), stage.session("second", 6 * BLOCK_SIZE)
    stage.run()
    keeper = stage.scheduler.keeper
    keeper.act(Drop("first", forget=True), HoldEnding.DECIDED)
    keeper.act(CopyOut("second"), HoldEnding.DECIDED)
    runs = stage.request("runs", 22 * BLOCK_SIZE, max_tokens=100)
    stage.harness.run(until=lambda: runs.tokens > 3)
    stage.forget_device_copies()
    stage.extend(first, 10 * BLOCK_SIZE)
    stage.extend(second, 5)
    stage.harness.run(until=lambda: second.turns == 2)
    return stage, first, runs


def test_a_swapped_session_does_not_wait_behind_one_that_does_not_fit() -> None:
    order = InferCept().order
    assert order is not None
    stage, first, runs = blocked_head(order)
    assert (first.turns, runs.turns) == (1, 0)
    stage.run()
    assert (first.turns, runs.turns) == (2, 1)


def test_in_one_queue_it_would() -> None:
    _, first, runs = blocked_head(OriginalArrival())
    assert (first.turns, runs.turns) == (2, 1)
