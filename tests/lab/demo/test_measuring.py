from pathlib import Path

import pytest

from caesura.lab.demo.measuring import measured_load
from caesura.lab.demo.pauses import base_settings
from caesura.lab.demo.saturation import STOCK_LOAD
from support.engines.fleet import FakeRunningEngine


class NotingEngine(FakeRunningEngine):
    """Keeps the prompts of all probes."""

    def __init__(self) -> None:
        super().__init__("stock", max_context_tokens=1312)
        self.prompts: list[tuple[int, ...]] = []

    def note(self) -> None:
        self.prompts += [tuple(s.transcript) for s in self.tokens.streams.values()]

    async def reset(self) -> None:
        self.note()
        await super().reset()


async def test_an_engine_is_measured_with_an_empty_cache_and_tokens_of_its_own(
    tmp_path: Path,
) -> None:
    engine = NotingEngine()
    load = await measured_load(base_settings(tmp_path), engine)
    engine.note()
    assert engine.resets == 8
    assert len(set(engine.prompts)) == len(engine.prompts) == 4 * 8 + 4 * 3
    assert load.costs.prompt_seconds > 0
    assert load.costs.output_seconds > 0
    assert load.kv_tokens == 1312
    assert load.rate.per_second * load.rate.thrashing_seconds == pytest.approx(STOCK_LOAD)
