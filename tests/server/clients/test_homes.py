"""Conversations on several engines: each stays on one, and all are spread."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from vllm import SamplingParams

from caesura.server.clients.history import digest
from caesura.server.clients.homes import home
from caesura.server.clients.turns import ClientTurn, serving
from caesura.server.clients.vllm_engine import ObservedEngine


def said(*texts: str) -> list[Any]:
    roles = ("system", "user", "assistant", "tool", "assistant", "user")
    return [
        digest({"role": role, "content": text}) for role, text in zip(roles, texts, strict=False)
    ]


def test_a_conversation_stays_where_it_began() -> None:
    turns = [said(*"abcdef"[:n]) for n in (2, 4, 6)]
    assert len({home(8, "anna", None, turn) for turn in turns}) == 1
    assert len({home(8, "anna", "s1", turn) for turn in [*turns, None, said("x")]}) == 1


def test_conversations_are_spread_over_all_engines() -> None:
    by_id = Counter(home(4, "anna", f"s{n}", None) for n in range(400))
    by_begin = Counter(home(4, "anna", None, said("a", f"question {n}")) for n in range(400))
    by_owner = Counter(home(4, f"owner {n}", "s", None) for n in range(400))
    for counted in (by_id, by_begin, by_owner):
        assert sorted(counted) == [0, 1, 2, 3]
        assert min(counted.values()) > 60


def test_where_nothing_is_known_or_there_is_one_engine_vllm_chooses() -> None:
    assert home(1, "anna", "s1", said("a")) is None
    assert home(4, "anna", None, None) is None
    assert home(4, "anna", None, []) is None


def rank(engines: int, **options: Any) -> int | None:
    seen: list[dict[str, Any]] = []

    def generate(*_: Any, **given: Any) -> Any:
        seen.append(given)

    turn = ClientTurn("anna")
    turn.messages = said("a", "b")
    with serving(turn):
        engine = ObservedEngine(SimpleNamespace(generate=generate), engines)
        engine.generate("prompt", SamplingParams(), "id", **options)
    return seen[0].get("data_parallel_rank")


def test_the_engine_is_asked_at_the_conversations_home_unless_the_client_says_where() -> None:
    assert rank(4) == home(4, "anna", None, said("a", "b"))
    assert rank(4, session_id="s1") == home(4, "anna", "s1", None)
    assert rank(4, data_parallel_rank=3) == 3
    assert rank(4, data_parallel_rank=0) == 0
    assert rank(1) is None
