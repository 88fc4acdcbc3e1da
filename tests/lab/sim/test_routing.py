"""Where the routers that come with the simulator send turns."""

import re
import runpy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from caesura.lab.sim.routing import DueTurn, EngineLoads, Router, make_router

ROOT = Path(__file__).parents[3]


def loads(
    engines: Sequence[int], tokens: Sequence[int], turns: Sequence[int], total: int = 4
) -> EngineLoads:
    paused = np.zeros(len(engines), np.int64)
    return EngineLoads(np.array(engines), np.array(tokens), np.array(turns), paused, total)


def turn(session: str = "s", home: int | None = None) -> DueTurn:
    return DueTurn(session, 0 if home is None else 1, 100, 10, home, 1.0)


def homes(router: Router, engines: Sequence[int]) -> dict[str, int]:
    seen = loads(engines, [0] * len(engines), [0] * len(engines))
    return {f"s{i}": router.place(turn(f"s{i}"), seen) for i in range(2000)}


def test_sticky_places_by_tokens_in_charge_among_those_that_take_turns() -> None:
    seen = loads([0, 2, 3], tokens=[30, 10, 20], turns=[0, 9, 1])
    assert make_router("sticky").place(turn(), seen) == 2
    assert make_router("sticky").place(turn(home=3), seen) == 3


def test_least_places_each_turn_by_open_turns() -> None:
    seen = loads([0, 2, 3], tokens=[0, 10, 20], turns=[5, 9, 1])
    assert make_router("least").place(turn(), seen) == 3
    assert make_router("least").place(turn(home=0), seen) == 3


def test_a_hash_spreads_evenly_and_moves_only_the_sessions_of_an_engine_that_is_gone() -> None:
    router = make_router("hash")
    before, after = homes(router, [0, 1, 2, 3]), homes(router, [0, 1, 3])
    for count in Counter(before.values()).values():
        assert count == pytest.approx(500, rel=0.15)
    assert {name for name in before if before[name] != after[name]} == {
        name for name in before if before[name] == 2
    }
    assert Counter(after.values())[0] == pytest.approx(667, rel=0.15)
    assert router.place(turn("s1", home=3), loads([0, 3], [0, 0], [0, 0])) == 3


def test_the_router_of_the_documentation_moves_only_what_waits_for_long(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "write-a-router.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "patient.py").write_text(code)
    made = runpy.run_path(str(tmp_path / "patient.py"))["Patient"]()
    seen = loads([0, 2, 3], tokens=[0, 0, 0], turns=[9, 10, 2])
    assert made.place(turn(), seen) == 3
    assert made.place(turn(home=0), seen) == 0
    assert made.place(turn(home=2), seen) == 3
