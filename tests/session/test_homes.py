"""Conversations on several engines: each stays on one, and new ones go where there is least."""

import random
from collections import Counter

import pytest

from caesura.session import homes as homes_module
from caesura.session.homes import Home, Homes

SYSTEM = list(range(1000, 1100))


def engine_of(homes: Homes, tokens: list[int], **options: object) -> int:
    home = homes.of(tokens, **options)
    assert home is not None
    homes.remember(home, tokens)
    return home.engine


def test_one_engine_needs_no_choice() -> None:
    assert Homes().of(SYSTEM) is None
    assert Homes(lambda: 1).of(SYSTEM, session_id="s", engine=0) is None


def test_a_conversation_stays_and_others_that_begin_alike_are_spread() -> None:
    homes, draws = Homes(lambda: 4), random.Random(7)
    histories = [SYSTEM + [5000 + n] * draws.randrange(1, 40) for n in range(40)]
    where = [engine_of(homes, tokens) for tokens in histories]
    assert set(Counter(where)) == {0, 1, 2, 3}
    assert max(Counter(where).values()) <= 13, "the fewest tokens, not any engine"
    for _ in range(400):
        n = draws.randrange(40)
        home = Home(where[n], None)
        histories[n] = histories[n] + draws.choices(range(99), k=draws.randrange(1, 30))
        homes.remember(home, histories[n])
        histories[n] = histories[n] + draws.choices(range(99), k=draws.randrange(1, 30))
        assert engine_of(homes, histories[n]) == where[n]


def test_the_same_question_twice_is_two_conversations() -> None:
    homes = Homes(lambda: 2)
    asked = [*SYSTEM, 7]
    first, second = engine_of(homes, asked), engine_of(homes, asked)
    assert {first, second} == {0, 1}
    for engine, answer in ((first, 8), (second, 9)):
        homes.remember(Home(engine, None), [*asked, answer])
    assert engine_of(homes, [*asked, 8, 1]) == first
    assert engine_of(homes, [*asked, 9, 1]) == second


@pytest.mark.parametrize("begun", [1, 15, 16, 17, 31, 32])
@pytest.mark.parametrize("more", [1, 15, 16, 17])
def test_wherever_a_turn_ends_the_next_one_is_recognised(begun: int, more: int) -> None:
    homes = Homes(lambda: 2)
    homes.remember(Home(1, None), list(range(begun)))
    assert engine_of(homes, [*range(begun), *[77] * more]) == 1
    assert engine_of(homes, [*range(begun - 1), 78, *[77] * more]) == 0, "it is another"


def test_the_longest_of_the_turns_that_are_known_counts() -> None:
    homes = Homes(lambda: 3)
    homes.remember(Home(0, None), [1, 2])
    homes.remember(Home(1, None), [1, 2, 3])
    homes.remember(Home(2, None), [1])
    assert engine_of(homes, [1, 2, 3, 4]) == 1
    assert engine_of(homes, [1, 2, 9, 4]) == 0, "a history that was rendered again"


def test_a_name_counts_where_the_tokens_are_not_known() -> None:
    homes = Homes(lambda: 2)
    home = engine_of(homes, [1] * 300, session_id="s")
    engine_of(homes, [3] * 100)
    assert engine_of(homes, [2] * 50, session_id="s") == home
    assert engine_of(homes, [2] * 50, session_id="t") != home
    assert engine_of(homes, [2] * 50, session_id="s", domain="another's") != home


def test_another_domain_finds_nothing() -> None:
    homes = Homes(lambda: 2)
    homes.remember(Home(1, "anna"), SYSTEM)
    assert engine_of(homes, [*SYSTEM, 1], domain="anna") == 1
    assert engine_of(homes, [*SYSTEM, 1], domain="bert") == 0


def test_what_a_client_says_of_the_engine_is_done_and_remembered() -> None:
    homes = Homes(lambda: 4)
    assert engine_of(homes, SYSTEM, engine=3) == 3
    assert engine_of(homes, [*SYSTEM, 1]) == 3


def test_an_engine_that_is_no_longer_there_is_nobodys_home() -> None:
    engines = 3
    homes = Homes(lambda: engines)
    homes.remember(Home(2, None), SYSTEM)
    assert engine_of(homes, [*SYSTEM, 1]) == 2
    engines = 2
    assert engine_of(homes, [*SYSTEM, 1, 2]) == 0


def test_new_ones_go_where_the_fewest_tokens_are_in_charge() -> None:
    homes = Homes(lambda: 3)
    for engine, tokens in enumerate((500, 300, 400)):
        homes.report(engine, tokens)
    assert engine_of(homes, [1] * 150) == 1
    # Its own report does not have it yet.
    homes.report(1, 310)
    assert engine_of(homes, [2] * 10) == 2
    homes.report(1, 320)
    assert engine_of(homes, [3] * 10) == 1


def test_the_same_report_again_says_nothing_of_what_was_placed_since() -> None:
    homes = Homes(lambda: 2)
    for _ in range(2):
        homes.report(0, 10)
        homes.report(1, 20)
    assert engine_of(homes, [1] * 100) == 0
    homes.report(0, 10)
    homes.report(0, 10)
    assert engine_of(homes, [2] * 5) == 1


def test_without_reports_what_was_placed_is_spread() -> None:
    homes = Homes(lambda: 4)
    placed = Counter(engine_of(homes, [n] * 10) for n in range(40))
    assert set(placed.values()) == {10}


def test_what_was_used_last_is_remembered_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes_module, "REMEMBERED", 8)
    monkeypatch.setattr(homes_module, "ENDS_IN_CHUNK", 4)
    homes = Homes(lambda: 2)
    for n in range(8):
        homes.remember(Home(1, None), [n] * 16)
    homes.remember(Home(1, None), [0] * 16)
    homes.remember(Home(1, None), [8] * 16)
    assert engine_of(homes, [*[0] * 16, 1]) == 1
    assert engine_of(homes, [*[1] * 16, 1]) == 0
    short = Homes(lambda: 2)
    for n in range(5):
        short.remember(Home(1, None), [n])
    assert engine_of(short, [0, 1]) == 0
    assert engine_of(short, [1, 1]) == 1


def test_no_tokens_are_the_beginning_of_nothing() -> None:
    homes = Homes(lambda: 2)
    homes.remember(Home(1, None), [])
    assert engine_of(homes, [1, 2, 3]) == 0
