"""Clients that stay away: when they are presumed to be gone, and what is learned from that."""

from caesura.engine.metrics import counter_key
from caesura.engine.pauses.presumptions import PATIENCE, SHORTEST_SECONDS
from caesura.policy import ExpectedWork
from caesura.policy.min_waste import MinWaste
from engine.virtual.engine import Shape
from engine.virtual.stage import Player, Stage

USUAL_SECONDS = 10.0


class Clients:
    """Clients whose requests call a tool, or have `endpoint` None: answers that end nothing."""

    def __init__(self, keep_contexts: str = "auto") -> None:
        options = {"policy": "min-waste", "keep_contexts": keep_contexts, "check_integrity": True}
        self.stage = Stage(Shape(options=options))
        policy = self.stage.scheduler.keeper.policy
        assert isinstance(policy, MinWaste)
        assert isinstance(policy.order, ExpectedWork)
        self.durations, self.remaining = policy.durations, policy.order.remaining

    def begins(self, name: str, endpoint: str | None = "tool") -> Player:
        player = self.stage.request(name, 40, 3, endpoint=endpoint)
        self.stage.run()
        return player

    def returns(self, player: Player, endpoint: str | None = None) -> None:
        player.transcript.append(self.stage.words(10))
        player.name += "'"
        self.stage.submit(player, 2, endpoint=endpoint)
        self.stage.run()

    def wait(self, seconds: float) -> None:
        self.stage.engine.now_seconds += seconds
        self.stage.scheduler.keeper.decide()

    def usually(self, sessions: int = 20) -> None:
        """Sessions that come back after the usual time, and end with that."""
        for number in range(sessions):
            player = self.begins(f"usual {number}")
            self.wait(USUAL_SECONDS)
            self.returns(player)

    @property
    def sessions_over(self) -> int:
        return self.remaining._observed

    def presumed(self) -> tuple[int, int]:
        """How many clients were presumed to be gone, and how many of them came back."""
        stats = self.stage.scheduler.metrics.take()
        counters = {} if stats is None else stats.data["counters"]
        gone, returned = (counter_key("presumptions", outcome) for outcome in ("gone", "returned"))
        return counters.get(gone, 0), counters.get(returned, 0)

    def probability(self, endpoint: str = "tool") -> float:
        return self.durations.return_probability(endpoint, 0.0)


def test_who_stays_away_for_much_longer_than_usual_is_gone() -> None:
    clients = Clients()
    clients.usually()
    clients.wait(1000.0)
    over, likely = clients.sessions_over, clients.probability()
    left = clients.begins("leaves")
    clients.wait(USUAL_SECONDS * PATIENCE * 0.9)
    assert clients.sessions_over == over
    clients.wait(USUAL_SECONDS * PATIENCE * 0.3)
    assert clients.sessions_over == over + 1
    assert clients.probability() < likely
    clients.wait(10_000.0)
    keeper = clients.stage.scheduler.keeper
    pause = keeper.table.get(left.name)
    assert pause is not None
    keeper.cancel(pause)
    assert clients.sessions_over == over + 1, "once, though its context is given up later"


def test_who_comes_back_after_all_was_not_gone() -> None:
    clients = Clients()
    clients.usually()
    clients.wait(1000.0)
    over, likely = clients.sessions_over, clients.probability()
    clients.presumed()
    player = clients.begins("hesitates")
    clients.wait(USUAL_SECONDS * PATIENCE * 3)
    assert clients.sessions_over == over + 1
    clients.returns(player, endpoint="tool")
    assert clients.sessions_over == over
    assert clients.presumed() == (1, 1)
    assert clients.probability() >= likely
    assert player.tokens == 5, "nothing was lost"


def test_after_answers_that_most_do_not_come_back_to_nobody_is_waited_for() -> None:
    clients = Clients("all")
    clients.usually()
    for number in range(20):
        clients.begins(f"asks once {number}", endpoint=None)
    clients.wait(1000.0)
    over = clients.sessions_over
    clients.begins("asks once more", endpoint=None)
    clients.wait(0.01)
    assert clients.sessions_over == over + 1
    assert clients.probability("client") < 0.5 < clients.probability("tool")


def test_nobody_is_gone_within_a_moment() -> None:
    clients = Clients()
    for number in range(20):
        clients.returns(clients.begins(f"quick {number}"))
    over = clients.sessions_over
    clients.wait(100.0)
    over = clients.sessions_over
    clients.begins("slower")
    clients.wait(SHORTEST_SECONDS * 0.9)
    assert clients.sessions_over == over
    clients.wait(SHORTEST_SECONDS * 0.2)
    assert clients.sessions_over == over + 1


def test_a_session_on_the_server_is_not_presumed_to_be_over() -> None:
    clients = Clients()
    clients.usually()
    clients.wait(1000.0)
    over = clients.sessions_over
    clients.stage.session("in place", 40)
    clients.stage.run()
    clients.wait(10_000.0)
    assert clients.sessions_over == over
