"""Full attention beside sliding windows: contexts are kept, copied and found in all groups.

The device checks that each step reads its own KV in each group; what is checked here is that
contexts were not computed again instead.
"""

from collections import Counter
from dataclasses import replace

import pytest

from caesura.engine.metrics import counter_key
from caesura.engine.pauses.holds import OwnBlocks, References
from caesura.engine.pauses.pause import Pause
from caesura.policy import Action, CopyAhead, CopyOut, Drop, Prefetch
from engine.virtual.device import CopyBehaviour
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.obedient import Obedient
from engine.virtual.runners import RunnerVersion
from engine.virtual.stage import Player, Stage, every_mode

WINDOW_BLOCKS = 2
TOKENS = 10 * BLOCK_SIZE + 5
FULL_TOKENS = 10 * BLOCK_SIZE
SHAPE = Shape(
    blocks=64,
    connected=True,
    host_blocks=64,
    windows=(WINDOW_BLOCKS * BLOCK_SIZE, WINDOW_BLOCKS * BLOCK_SIZE),
    options={"policy": "engine.virtual.obedient:Obedient", "check_integrity": True},
)
BLOCKS_AT_BOUNDARY = 10 + 2 * WINDOW_BLOCKS
PROMPT_BOUNDARY = 6 * BLOCK_SIZE


class Windows(Stage):
    """An engine of these groups that does as it is told."""

    def __init__(self, in_flight: int = 1, runner: RunnerVersion = RunnerVersion.V1, **changes):
        super().__init__(replace(SHAPE, in_flight=in_flight, runner=runner, **changes))

    def paused(self) -> Player:
        """A session in place that has computed `TOKENS` tokens, most of them generated."""
        session = self.session("session", PROMPT_BOUNDARY + 3, TOKENS - PROMPT_BOUNDARY - 2)
        self.run()
        assert self.pause.context_tokens == TOKENS
        self.counts()
        return session

    def finished(self) -> Player:
        """A client's request with as many, which will be continued."""
        first = self.request(
            "session", PROMPT_BOUNDARY + 3, TOKENS - PROMPT_BOUNDARY - 2, endpoint="search"
        )
        self.run()
        assert self.pause.context_tokens == TOKENS
        self.counts()
        return first

    def returned(self, first: Player, name: str = "second") -> Player:
        """The request that goes on with it."""
        second = Player(self.harness, name, [*first.transcript.tokens, *self.words(10)])
        self.submit(second, 30)
        self.run()
        assert second.turns == 1
        return second

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

    def tokens(self) -> tuple[int, int]:
        """Tokens that returns have found on the device, and loaded."""
        counts = self.counts()
        held, loaded = counter_key("held_tokens"), counter_key("loaded_tokens")
        return int(counts[held]), int(counts[loaded])

    def counts(self) -> Counter[str]:
        stats = self.scheduler.metrics.take()
        return Counter() if stats is None else Counter(stats.data["counters"])

    def close(self) -> None:
        for player in self.players:
            if player.name in self.scheduler.requests:
                self.harness.abort(player.name, mid_step=False)
        self.run()
        self.engine.idle_books()


@every_mode()
def test_a_session_goes_on_with_its_own_blocks(in_flight: int, runner: RunnerVersion) -> None:
    on = Windows(in_flight, runner)
    session = on.paused()
    assert isinstance(on.pause.hold, OwnBlocks)
    assert len(on.pause.hold.blocks()) <= BLOCKS_AT_BOUNDARY + 3
    on.extend(session, 20, 30)
    on.run()
    assert on.tokens() == (TOKENS, 0)
    on.close()


def test_a_session_gives_back_what_its_windows_have_passed() -> None:
    """A prompt of one chunk leaves more behind than its windows reach."""
    on = Windows(max_num_batched_tokens=256)
    on.session("session", TOKENS)
    on.run()
    assert on.pause.hold is not None
    assert len(on.pause.hold.blocks()) == BLOCKS_AT_BOUNDARY + 3
    assert on.free_blocks == 64 - BLOCKS_AT_BOUNDARY - 3


@every_mode()
def test_a_client_finds_what_it_generated(in_flight: int, runner: RunnerVersion) -> None:
    """vLLM alone keeps the windows of the prompt's end only."""
    on = Windows(in_flight, runner)
    first = on.finished()
    assert isinstance(on.pause.hold, References)
    assert on.pause.held_tokens == FULL_TOKENS
    assert len(on.pause.hold.blocks()) == BLOCKS_AT_BOUNDARY
    assert on.free_blocks == 64 - BLOCKS_AT_BOUNDARY
    on.returned(first)
    assert on.tokens() == (FULL_TOKENS, 0)
    on.close()


@every_mode()
def test_two_continue_the_same_context(in_flight: int, runner: RunnerVersion) -> None:
    on = Windows(in_flight, runner)
    first = on.finished()
    second = Player(on.harness, "fork", [*first.transcript.tokens, *on.words(7)])
    on.submit(second, 30)
    on.returned(first)
    assert second.turns == 1
    on.close()


@every_mode()
@pytest.mark.parametrize("kind", ["session", "client"])
def test_of_a_released_tail_the_last_boundary_before_it_stays(
    in_flight: int, runner: RunnerVersion, kind: str
) -> None:
    """Before the windows there is only the checkpoint that vLLM keeps at the prompt's end."""
    on = Windows(in_flight, runner)
    player = on.paused() if kind == "session" else on.finished()
    on.tell(Drop("session", keep_tokens=FULL_TOKENS - 1))
    assert isinstance(on.pause.hold, References)
    assert on.pause.held_tokens == PROMPT_BOUNDARY
    assert on.free_blocks == 64 - PROMPT_BOUNDARY // BLOCK_SIZE - 2 * WINDOW_BLOCKS
    on.forget_device_copies()
    if kind == "session":
        on.extend(player, 20, 30)
        on.run()
    else:
        on.returned(player)
    assert on.tokens() == (PROMPT_BOUNDARY, 0)
    on.close()


@every_mode()
def test_a_session_that_lost_only_its_last_block_keeps_its_windows(
    in_flight: int, runner: RunnerVersion
) -> None:
    on = Windows(in_flight, runner)
    session = on.paused()
    on.tell(Drop("session", keep_tokens=TOKENS - 1))
    assert on.pause.held_tokens == FULL_TOKENS
    on.extend(session, 20, 30)
    on.run()
    assert on.tokens() == (FULL_TOKENS, 0)
    on.close()


@every_mode()
@pytest.mark.parametrize("kind", ["session", "client"])
def test_a_dropped_context_is_computed_again(
    in_flight: int, runner: RunnerVersion, kind: str
) -> None:
    on = Windows(in_flight, runner)
    player = on.paused() if kind == "session" else on.finished()
    on.tell(Drop("session", forget=True))
    assert on.free_blocks == 64
    on.forget_device_copies()
    if kind == "session":
        on.extend(player, 20, 30)
        on.run()
    else:
        on.returned(player)
    assert on.tokens() == (0, 0)
    on.close()


@every_mode()
@pytest.mark.parametrize("kind", ["session", "client"])
@pytest.mark.parametrize("budget", [2, 64])
def test_a_context_is_copied_and_loaded_in_all_groups(
    in_flight: int, runner: RunnerVersion, kind: str, budget: int
) -> None:
    on = Windows(in_flight, runner, budget_blocks=budget)
    player = on.paused() if kind == "session" else on.finished()
    on.tell(CopyOut("session"))
    on.run()
    assert on.host.used_slots == BLOCKS_AT_BOUNDARY, "windows are copied as far as they reach"
    assert on.pause.memory_tokens(on.pause.copied_tokens) == BLOCKS_AT_BOUNDARY * BLOCK_SIZE
    assert on.free_blocks == 64
    on.forget_device_copies()
    if kind == "session":
        on.extend(player, 20, 30)
        on.run()
    else:
        on.returned(player)
    assert on.tokens() == (0, FULL_TOKENS)
    on.close()


@every_mode()
def test_a_copy_of_which_a_block_is_lost_is_not_loaded_beyond_what_is_left(
    in_flight: int, runner: RunnerVersion
) -> None:
    on = Windows(in_flight, runner)
    session = on.paused()
    on.tell(CopyOut("session"))
    on.run()
    on.forget_device_copies()
    transfers = on.scheduler.keeper.contexts.transfers
    key = transfers.groups.keys(on.pause.block_hashes, 0, 10)[-1]  # of the last window
    on.host._slots[key].filled = False
    on.extend(session, 20, 30)
    on.run()
    assert on.tokens() == (0, 0)


@every_mode()
def test_after_a_load_that_failed_everything_is_computed_again(
    in_flight: int, runner: RunnerVersion
) -> None:
    """What was loaded before the failure is not used with what is computed after it."""
    copies = CopyBehaviour(most_delay_steps=3, loads_fail=True)
    on = Windows(in_flight, runner, budget_blocks=3, copies=copies)
    session = on.paused()
    on.tell(CopyOut("session"))
    on.run()
    on.forget_device_copies()
    on.extend(session, 20, 30)
    on.run()
    assert session.turns == 2
    assert (
        on.scheduler.requests["session"].num_computed_tokens == len(session.transcript.tokens) - 1
    )
    on.close()


@every_mode()
def test_a_context_is_loaded_ahead_in_all_groups(in_flight: int, runner: RunnerVersion) -> None:
    on = Windows(in_flight, runner, copies=CopyBehaviour(most_delay_steps=8), budget_blocks=3)
    session = on.paused()
    on.tell(CopyAhead("session"))
    on.run()
    on.tell(Drop("session", forget=True))
    assert on.pause.loadable_tokens == FULL_TOKENS
    on.tell(Prefetch("session"))
    on.run()
    assert on.pause.held_tokens == FULL_TOKENS
    assert on.free_blocks == 64 - BLOCKS_AT_BOUNDARY
    on.extend(session, 20, 30)
    on.run()
    assert on.tokens() == (FULL_TOKENS, 0)
    on.close()


@every_mode()
def test_what_was_released_is_loaded_ahead_behind_the_front_that_was_kept(
    in_flight: int, runner: RunnerVersion
) -> None:
    on = Windows(in_flight, runner)
    session = on.paused()
    on.tell(CopyAhead("session"))
    on.run()
    on.tell(Drop("session", keep_tokens=FULL_TOKENS - 1, forget=True))
    assert on.pause.held_tokens == PROMPT_BOUNDARY
    on.forget_device_copies()
    on.tell(Prefetch("session"))
    on.run()
    assert on.pause.held_tokens == FULL_TOKENS
    assert on.free_blocks == 64 - BLOCKS_AT_BOUNDARY, (
        "windows of the boundary before are given back"
    )
    on.extend(session, 20, 30)
    on.run()
    assert on.tokens() == (FULL_TOKENS, 0)
    on.close()


@every_mode()
def test_a_copy_is_made_of_what_the_pause_holds(in_flight: int, runner: RunnerVersion) -> None:
    """Blocks of another with the same tokens are found first, and may be overwritten."""
    on = Windows(in_flight, runner, budget_blocks=1)
    tokens = on.words(PROMPT_BOUNDARY + 3)
    twin, session = (Player(on.harness, name, tokens) for name in ("twin", "session"))
    on.players.append(session)
    on.submit(twin, TOKENS - len(tokens))
    on.submit(session, TOKENS - len(tokens) + 1, resumable=True)
    on.run()
    assert twin.turns == session.turns == 1
    on.tell(CopyAhead("session"))
    on.harness.run(until=lambda: on.host.used_slots > 0)
    others = [on.request(f"other-{number}", 200, 30) for number in range(4)]
    on.run()
    assert [other.turns for other in others] == [1] * 4
    assert on.pause.copied_tokens == FULL_TOKENS
    on.tell(Drop("session", forget=True))
    on.forget_device_copies()
    on.extend(session, 20, 30)
    on.run()
    assert on.tokens() == (0, FULL_TOKENS)
    on.close()


@every_mode()
def test_a_session_that_is_interrupted_goes_on(in_flight: int, runner: RunnerVersion) -> None:
    on = Windows(in_flight, runner)
    session = on.session("session", PROMPT_BOUNDARY, 60)
    on.harness.run(until=lambda: session.tokens > 20)
    words = on.append_later(session, 9, 20)
    on.harness.run(until=lambda: session.turns == 1)
    session.transcript.append(words)
    on.run()
    assert session.turns == 2
    on.close()


@every_mode()
def test_preempted_requests_are_saved_and_loaded_in_all_groups(
    in_flight: int, runner: RunnerVersion
) -> None:
    options = {"policy": "engine.virtual.obedient:Saving", "check_integrity": True}
    small = {"blocks": 26, "max_model_len": 160, "max_num_batched_tokens": 32}
    on = Windows(in_flight, runner, options=options, **small)
    session = on.session("paused", 5)
    on.run()
    requests = [on.request(f"request-{number}", 60, 70) for number in range(3)]
    on.run()
    assert [request.turns for request in requests] == [1, 1, 1]
    assert on.scheduler.keeper.contexts.transfers.writes.copied_blocks > 0
    on.extend(session, 5, 5)
    on.run()
    on.close()


@every_mode()
@pytest.mark.parametrize("kind", ["session", "client"])
def test_blocks_of_windows_may_be_larger(in_flight: int, runner: RunnerVersion, kind: str) -> None:
    """Contexts go on where blocks of all groups end: here after every second one."""
    on = Windows(in_flight, runner, window_block_size=2 * BLOCK_SIZE)
    player = on.paused() if kind == "session" else on.finished()
    on.tell(CopyOut("session"))
    on.run()
    assert on.free_blocks == 64
    assert on.host.used_slots == 10 + 2
    on.forget_device_copies()
    on.tell(Prefetch("session"))
    on.run()
    assert on.pause.held_tokens == FULL_TOKENS
    assert on.free_blocks == 64 - 12
    on.tell(Drop("session"))
    on.forget_device_copies()
    if kind == "session":
        on.extend(player, 20, 30)
        on.run()
    else:
        on.returned(player)
    assert on.tokens() == (0, FULL_TOKENS)
    on.close()
