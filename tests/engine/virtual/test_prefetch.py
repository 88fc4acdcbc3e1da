"""Contexts that are loaded back before their sessions return."""

from collections import Counter
from dataclasses import replace

from caesura.engine.metrics import counter_key
from caesura.engine.pauses.pause import Pause
from caesura.policy import Action, CopyAhead, Disposition, Drop, DropCopy, Prefetch
from engine.virtual.device import CopyBehaviour
from engine.virtual.engine import Shape
from engine.virtual.obedient import Obedient
from engine.virtual.runners import RunnerVersion
from engine.virtual.stage import Player, Stage, every_mode

SHAPE = Shape(
    connected=True,
    host_blocks=64,
    budget_blocks=2,
    options={"policy": "engine.virtual.obedient:Obedient", "check_integrity": True},
)
SLOWLY = CopyBehaviour(most_delay_steps=8)
TOKENS = 100
FULL_BLOCKS = TOKENS // 16


class Away(Stage):
    """A paused session whose context is in host memory only."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.player: Player = self.session("session", TOKENS)
        self.run()
        self.tell(CopyAhead("session"))
        self.run()
        self.tell(Drop("session", forget=True))
        assert self.free_blocks == shape.blocks
        assert self.pause.loadable_tokens == FULL_BLOCKS * 16
        self.counts()

    @property
    def pause(self) -> Pause:
        pause = self.scheduler.keeper.table.get("session")
        assert pause is not None
        return pause

    def tell(self, action: Action) -> None:
        policy = self.scheduler.keeper.policy
        assert isinstance(policy, Obedient)
        policy.orders.append(action)
        self.scheduler.keeper.decide()

    def prefetch(self) -> None:
        self.tell(Prefetch("session"))

    def until_loading(self) -> None:
        self.harness.run(until=lambda: self.engine.device.copying)
        assert self.pause.hold is None

    def counts(self) -> Counter[str]:
        stats = self.scheduler.metrics.take()
        return Counter() if stats is None else Counter(stats.data["counters"])


def shape(in_flight: int, runner: RunnerVersion, copies: CopyBehaviour = SLOWLY) -> Shape:
    return replace(SHAPE, in_flight=in_flight, runner=runner, copies=copies)


@every_mode()
def test_a_session_finds_what_was_loaded_before_it_returned(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = Away(shape(in_flight, runner))
    stage.prefetch()
    stage.run()
    assert stage.pause.held_tokens == FULL_BLOCKS * 16
    stage.extend(stage.player, 20)
    stage.run()
    assert stage.player.turns == 2
    counts = stage.counts()
    assert counts[counter_key("prefetches", "used")] == 1
    assert (
        counts[counter_key("prefetched_tokens")]
        == counts[counter_key("held_tokens")]
        == FULL_BLOCKS * 16
    )
    assert counts[counter_key("loaded_tokens")] == 0
    assert counts[counter_key("hold_endings", "resumed")] == 1


@every_mode()
def test_a_session_that_returns_meanwhile_waits_for_what_is_under_way_only(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = Away(shape(in_flight, runner))
    stage.prefetch()
    stage.until_loading()
    stage.extend(stage.player, 20)
    stage.run()
    assert stage.player.turns == 2
    counts = stage.counts()
    assert 0 < counts[counter_key("held_tokens")] < FULL_BLOCKS * 16
    assert (
        counts[counter_key("held_tokens")] + counts[counter_key("loaded_tokens")]
        == FULL_BLOCKS * 16
    )
    assert counts[counter_key("prefetches", "used")] == 1
    assert stage.engine.device.copying is False


def test_a_session_that_returns_before_anything_was_loaded_loads_it_itself() -> None:
    stage = Away(SHAPE)
    stage.prefetch()
    stage.extend(stage.player, 20)
    stage.run()
    counts = stage.counts()
    assert counts[counter_key("prefetches", "wasted")] == 1
    assert counts[counter_key("loaded_tokens")] == FULL_BLOCKS * 16


@every_mode()
def test_a_session_is_closed_while_its_context_is_on_its_way(
    in_flight: int, runner: RunnerVersion
) -> None:
    for waiting in (False, True):
        stage = Away(shape(in_flight, runner))
        stage.prefetch()
        stage.until_loading()
        if waiting:
            stage.extend(stage.player, 20)
        stage.harness.abort("session", mid_step=False)
        stage.run()
        assert stage.counts()[counter_key("prefetches", "wasted")] == 1
        stage.engine.idle_books()


@every_mode()
def test_a_load_that_fails_is_given_up_and_not_tried_again(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = Away(shape(in_flight, runner, CopyBehaviour(loads_fail=True)))
    stage.prefetch()
    stage.run()
    assert stage.pause.hold is None
    assert stage.pause.loadable_tokens == 0
    assert stage.free_blocks == SHAPE.blocks
    assert stage.counts()[counter_key("prefetches", "wasted")] == 1
    stage.extend(stage.player, 20)
    stage.run()
    assert stage.player.turns == 2


@every_mode()
def test_a_cache_that_is_reset_meanwhile_does_not_get_what_was_on_its_way(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = Away(shape(in_flight, runner))
    stage.prefetch()
    stage.until_loading()
    stage.scheduler.reset_prefix_cache(reset_connector=True)
    stage.run()
    assert stage.pause.hold is None
    pool = stage.scheduler.kv_cache_manager.block_pool
    assert all(block.block_hash is None for block in pool.blocks)
    stage.extend(stage.player, 20)
    stage.run()
    assert stage.player.turns == 2


def test_whoever_needs_the_memory_gets_what_was_not_loaded_yet() -> None:
    longest = SHAPE.blocks * 16
    stage = Away(replace(SHAPE, copies=SLOWLY, max_model_len=longest))
    stage.prefetch()
    newcomer = stage.request("newcomer", longest - 16, max_tokens=10)
    stage.run()
    assert newcomer.turns == 1
    stage.extend(stage.player, 20)
    stage.run()
    assert stage.player.turns == 2
    assert stage.counts()[counter_key("prefetches", "wasted")] == 1


def test_what_was_loaded_is_held_as_softly_as_the_rest() -> None:
    longest = SHAPE.blocks * 16
    stage = Away(replace(SHAPE, max_model_len=longest))
    stage.prefetch()
    stage.run()
    newcomer = stage.request("newcomer", longest - 16, max_tokens=10)
    stage.run()
    assert newcomer.turns == 1
    counts = stage.counts()
    assert (
        counts[counter_key("hold_endings", "released")]
        == counts[counter_key("prefetches", "wasted")]
        == 1
    )


def test_what_others_have_loaded_meanwhile_is_shared() -> None:
    """The blocks are on the device already: nothing is copied."""
    stage = Away(SHAPE)
    twin = Player(stage.harness, "twin", stage.player.transcript.tokens)
    stage.submit(twin, 3)
    stage.run()
    stage.prefetch()
    stage.run()
    assert stage.pause.held_tokens == FULL_BLOCKS * 16
    assert stage.counts()[counter_key("prefetched_tokens")] == 0


@every_mode()
def test_a_context_that_loses_its_copy_keeps_what_the_device_has_of_it(
    in_flight: int, runner: RunnerVersion
) -> None:
    stage = Away(shape(in_flight, runner))
    stage.tell(DropCopy("session"))
    assert stage.pause.disposition is Disposition.DISCARD
    assert stage.pause.copied_tokens == 0

    other = stage.session("other", TOKENS)
    stage.run()
    pause = stage.scheduler.keeper.table.get("other")
    assert pause is not None
    stage.tell(CopyAhead("other"))
    stage.run()
    stage.tell(Drop("other", keep_tokens=32))
    assert pause.disposition is Disposition.DISCARD
    stage.tell(DropCopy("other"))
    assert pause.disposition is Disposition.PRESERVE
    assert (pause.held_tokens, pause.copied_tokens) == (32, 0)
    stage.extend(other, 20)
    stage.run()
    assert other.turns == 2
