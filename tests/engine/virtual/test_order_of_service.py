"""Who is served before whom: decisions that no output shows, on the scheduler that serves."""

import pytest
from vllm.v1.request import RequestStatus

from caesura.engine.pauses.pause import HoldEnding
from caesura.engine.scheduler import InterceptScheduler
from caesura.policy import Drop, ExpectedWork, Service
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Player, Stage


def shape(policy: str, *, blocks: int = 64, max_num_seqs: int = 1, **options: float) -> Shape:
    return Shape(
        blocks=blocks,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=512,
        max_model_len=min(512, blocks * BLOCK_SIZE),
        options={"policy": policy, "policy_options": options, "check_integrity": True},
    )


def first_tokens(stage: Stage, *players: Player) -> list[str]:
    """The players' names in the order in which they got their first tokens."""
    stage.run()
    for player in players:
        assert player.first_token_seconds is not None, player.name
    return [p.name for p in sorted(players, key=lambda p: p.first_token_seconds or 0.0)]


def busy(stage: Stage, tokens: int = 40) -> Player:
    """A request that runs alone."""
    player = stage.request("busy", 20, tokens)
    stage.harness.run(until=lambda: player.tokens >= 2)
    return player


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "client's"])
def test_a_session_that_returns_goes_before_requests_that_came_after_it(*, in_place: bool) -> None:
    stage = Stage(shape("discard"))
    options = {"resumable": True} if in_place else {"session_id": "s"}
    old = stage.request("old", 30, 1, **options)
    stage.run()
    busy(stage)
    newer = [stage.request(f"newer {number}", 30, 2) for number in range(3)]
    stage.harness.run(until=lambda: len(stage.scheduler.waiting) == 3)
    if in_place:
        old.first_token_seconds = None
        stage.extend(old, 20, 2)
    else:
        again = [*old.transcript.tokens, *stage.words(20)]
        old = Player(stage.harness, "old again", again)
        stage.harness.send(old, stage.engine.request(old.name, again, max_tokens=2, session_id="s"))
    assert first_tokens(stage, old, *newer)[0] == old.name


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "client's"])
def test_a_session_that_returns_asks_for_memory_by_its_original_arrival(*, in_place: bool) -> None:
    stage = Stage(shape("preserve"))
    options = {"resumable": True} if in_place else {"session_id": "s"}
    old = stage.request("old", 30, 1, **options)
    arrived = stage.scheduler.requests["old"].arrival_time
    stage.run()
    busy(stage)
    again, name = [*old.transcript.tokens, *stage.words(20)], "old"
    if in_place:
        stage.extend(old, 20, 2)
    else:
        name = "old again"
        player = Player(stage.harness, name, again)
        stage.harness.send(player, stage.engine.request(name, again, max_tokens=2, session_id="s"))
    stage.harness.run(until=lambda: name in stage.scheduler.requests)
    returned = stage.scheduler.requests[name]
    assert returned.arrival_time == arrived
    assert returned.arrival_time < stage.scheduler.requests["busy"].arrival_time
    stage.run()


def preemptions(scheduler: InterceptScheduler, *names: str) -> list[int]:
    return [scheduler.requests[name].num_preemptions for name in names]


def test_an_old_session_that_resumed_last_is_not_preempted_first() -> None:
    stage = Stage(shape("discard", blocks=24, max_num_seqs=4))
    old = stage.session("old", 30)
    stage.run()
    newer = [stage.request(f"newer {number}", 5 * BLOCK_SIZE, 90) for number in range(2)]
    stage.harness.run(until=lambda: all(player.tokens for player in newer))
    old.tokens = 0
    stage.extend(old, 20, 90)
    scheduler = stage.scheduler
    stage.harness.run(until=lambda: any(preemptions(scheduler, "newer 0", "newer 1")))
    assert old.tokens, "it ran beside them"
    assert preemptions(scheduler, "newer 0", "newer 1", "old") == [0, 1, 0]
    stage.run()


def remaining_order(stage: Stage) -> ExpectedWork:
    order = stage.scheduler.keeper.policy.order
    assert isinstance(order, ExpectedWork)
    return order


def test_an_engine_learns_from_every_session_that_is_over() -> None:
    stage = Stage(shape("min-waste", max_num_seqs=8))
    learned = remaining_order(stage).remaining
    in_place = stage.session("in place", 30, 3)
    kept = stage.request("kept", 30, 4, session_id="s")
    stage.request("alone", 30, 5)
    stage.run()
    assert (in_place.turns, kept.turns) == (1, 1)
    assert learned._observed == 1, "two of three sessions have paused, and are not over"
    stage.extend(in_place, 10, 6)
    stage.run()
    stage.scheduler.finish_requests("in place", RequestStatus.FINISHED_ABORTED)
    assert learned._observed == 2
    for pause in list(stage.scheduler.keeper.table):
        stage.scheduler.keeper.cancel(pause)
    assert learned._observed == 3
    assert sorted(learned._totals._latest) == [4, 5, 9]


def teach(stage: Stage, *, short: int, long: int) -> int:
    """Sessions of 20 prompt tokens are short, those of 200 are long. Gives the generation."""
    order = remaining_order(stage)
    for _ in range(100):
        order.ended(Service.begun(0.0, 20).served(short, 20))
        order.ended(Service.begun(0.0, 200).served(long, 200))
    return order.generation


def test_what_will_soon_be_over_goes_first() -> None:
    stage = Stage(shape("min-waste", promoted_share=0.0))
    teach(stage, short=4, long=400)
    stage.session("paused", 5)
    stage.run()
    busy(stage)
    large = [stage.request(f"large {number}", 200, 4) for number in range(2)]
    small = [stage.request(f"small {number}", 20, 4) for number in range(2)]
    names = first_tokens(stage, *large, *small)
    assert names == ["small 0", "small 1", "large 0", "large 1"]


def test_a_rank_does_not_change_while_its_request_waits() -> None:
    """What is learned in between ranks who comes later, and does not disorder the queue."""
    stage = Stage(shape("min-waste", promoted_share=0.0))
    stage.session("paused", 5)
    stage.run()
    busy(stage, 60)
    requests = [stage.request(f"r{number}", 20 + 60 * (number % 3), 4) for number in range(6)]
    stage.harness.run(until=lambda: len(stage.scheduler.waiting) == 6)
    ranks = {
        request.request_id: stage.scheduler.ranks.rank(request)
        for request in stage.scheduler.waiting
    }
    stage.scheduler.ranks._generation = teach(stage, short=4, long=400)
    assert ranks == {
        request.request_id: stage.scheduler.ranks.rank(request)
        for request in stage.scheduler.waiting
    }
    assert first_tokens(stage, *requests) == sorted(ranks, key=lambda name: ranks[name] or 0.0)


def test_nobody_waits_for_ever_behind_others_that_rank_before_it() -> None:
    waits_without, _ = starved_in_a_crowd(0.0)
    waits_with, stage = starved_in_a_crowd(0.05)
    assert waits_without >= 30, "small ones keep coming, and each goes first"
    assert waits_with <= 3, "it is promoted as soon as nobody has waited for longer"
    assert not stage.scheduler.ranks.promoted(), "its turn is over"


def starved_in_a_crowd(share: float) -> tuple[int, Stage]:
    """A large request waits while two small ones are always there, one at a time running: how
    many of those that came after it were served before it."""
    stage = Stage(shape("min-waste", promoted_share=share))
    teach(stage, short=4, long=400)
    stage.session("paused", 5)
    stage.run()
    crowd = [busy(stage)]
    large = stage.request("large", 200, 4)
    overtaking = 0
    for number in range(40):
        crowd.append(stage.request(f"small {number}", 20, 4))
        stage.harness.run(until=lambda player=crowd[-2]: player.turns == 1)
        overtaking += number > 0 and not large.tokens
    stage.run()
    assert large.turns == 1
    return overtaking, stage


def test_promoted_requests_have_no_more_than_their_share_over_time() -> None:
    """What the first one held is paid for before there is another: a share of 1/1000 gives all
    that wait one promotion in this time, and a share of 1 gives each its own."""
    few, all_of_them = promotions(0.001), promotions(1.0)
    assert few == 1
    assert all_of_them >= 3


def promotions(share: float) -> int:
    """How many large requests were served before small ones that came later."""
    stage = Stage(shape("min-waste", promoted_share=share))
    teach(stage, short=4, long=400)
    stage.session("paused", 5)
    stage.run()
    busy(stage)
    players = [stage.request(f"large {number}", 200, 4) for number in range(4)]
    players += [stage.request(f"small {number}", 20, 4) for number in range(12)]
    names = first_tokens(stage, *players)
    last = max(index for index, name in enumerate(names) if name.startswith("small"))
    return sum(name.startswith("large") for name in names[:last])


def test_those_who_wait_are_ranked_anew_when_twice_as_much_is_known() -> None:
    stage = Stage(shape("min-waste", promoted_share=0.0))
    order = remaining_order(stage)
    stage.session("paused", 5)
    stage.run()
    busy(stage, 60)
    large = [stage.request(f"large {number}", 200, 4) for number in range(2)]
    small = [stage.request(f"small {number}", 20, 4) for number in range(2)]
    stage.harness.run(until=lambda: len(stage.scheduler.waiting) == 4)
    before = order.generation
    teach(stage, short=4, long=400)
    assert order.generation > before
    names = first_tokens(stage, *large, *small)
    assert names == ["small 0", "small 1", "large 0", "large 1"]


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "released"])
def test_a_client_whose_context_is_held_does_not_wait_behind_one_that_does_not_fit(
    *, is_held: bool
) -> None:
    """As sessions in place. What is held is of no use as long as its session waits."""
    stage = Stage(shape("min-waste", blocks=32, max_num_seqs=4, promoted_share=0.0))
    teach(stage, short=4000, long=4)
    returned = Service.begun(0.0, 20).served(1, 20).paused(1.0, "client")
    for _ in range(100):
        remaining_order(stage).ended(returned.served(4000, 4000))
    client = stage.request("client", 20, 1, session_id="s")
    stage.run()
    running = stage.request("running", 20 * BLOCK_SIZE, 60)
    stage.harness.run(until=lambda: running.tokens >= 2)
    large = stage.request("large", 14 * BLOCK_SIZE, 4)  # ranks first, and does not fit
    stage.harness.run(until=lambda: running.tokens >= 4)
    (pause,) = stage.scheduler.keeper.table
    again = Player(stage.harness, "again", [*client.transcript.tokens, *stage.words(4)])
    request = stage.engine.request("again", again.transcript.tokens, max_tokens=2, session_id="s")
    stage.harness.send(again, request)
    stage.harness.run(until=lambda: "again" in stage.scheduler.requests)
    rank = stage.scheduler.ranks.rank
    of_large, of_again = (rank(stage.scheduler.requests[name]) for name in ("large", "again"))
    assert of_large is not None
    assert of_again is not None
    assert of_large < of_again
    if not is_held:
        stage.scheduler.keeper.act(Drop(pause.id), HoldEnding.RELEASED)
    stage.run()
    assert again.first_token_seconds is not None
    assert large.first_token_seconds is not None
    assert (again.first_token_seconds < large.first_token_seconds) is is_held
