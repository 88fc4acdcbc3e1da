"""Host copies beside another connector, and what indexes of KV blocks are told of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from vllm.config import KVTransferConfig
from vllm.distributed.kv_events import BlockRemoved, BlockStored, KVCacheEvent, KVEventBatch
from vllm.distributed.kv_transfer.kv_connector.v1.example_connector import ExampleConnector
from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiConnector
from vllm.v1.core.kv_cache_utils import maybe_convert_block_hash
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.request import RequestStatus

from caesura.engine.connector import CaesuraConnector, add_own_stats, own_connector
from caesura.engine.flags import kv_transfer_config
from caesura.engine.metrics import unregister_metrics
from engine.virtual.engine import BLOCK_SIZE, Shape
from engine.virtual.stage import Stage

SWAPPING = {
    "connected": True,
    "host_blocks": 64,
    "budget_blocks": 16,
    "options": {"policy": "swap", "check_integrity": True},
}


def beside(folder: Path) -> dict[str, Any]:
    """vLLM's own example of a connector, which keeps contexts in a folder."""
    return {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": str(folder)},
    }


def resumed(shape: Shape) -> dict[str, float]:
    """Counters of a session that was swapped, and came back when the device had nothing of it."""
    stage = Stage(shape)
    session = stage.session("session", 100)
    stage.run()
    stage.forget_device_copies()
    stage.extend(session, 20)
    stage.run()
    stats = stage.scheduler.metrics.take()
    assert stats is not None
    close(stage, "session")
    stage.engine.idle_books()
    return {name: stats.data["counters"].get(f'["{name}"]', 0) for name in COUNTED}


def close(stage: Stage, name: str) -> None:
    stage.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
    stage.run()


COUNTED = ("copied_tokens", "loaded_tokens", "held_tokens")


def test_host_copies_are_on_beside_another_connector(tmp_path: Path) -> None:
    alone = resumed(Shape(**SWAPPING))
    assert alone["loaded_tokens"] > 0
    assert resumed(Shape(**SWAPPING, beside=beside(tmp_path))) == alone


def test_ours_is_asked_first(tmp_path: Path) -> None:
    stage = Stage(Shape(**SWAPPING, beside=beside(tmp_path)))
    connector = stage.scheduler.connector
    assert isinstance(connector, MultiConnector)
    first, second = connector.sub_connectors
    assert own_connector(connector) is first
    assert isinstance(second, ExampleConnector)
    assert own_connector(second) is own_connector(None) is None


def test_counters_go_to_metrics_through_the_multi_connector(tmp_path: Path) -> None:
    stage = Stage(Shape(**SWAPPING, beside=beside(tmp_path)))
    stage.session("session", 100)
    stage.run()
    stage.scheduler.keeper.contexts.count_copies()
    own, step = stage.scheduler.metrics.take(), SchedulerStats()
    assert own is not None
    step.kv_connector_stats = {"ExampleConnector": {"theirs": 1}}
    add_own_stats(step, stage.scheduler.connector, own)
    carried = dict(step.kv_connector_stats)
    assert carried.pop("ExampleConnector") == {"theirs": 1}
    assert MultiConnector.build_kv_connector_stats(carried).reduce()["CaesuraConnector"]
    config = SimpleNamespace(
        kv_transfer_config=KVTransferConfig(**kv_transfer_config(beside(tmp_path)))
    )
    types = {Counter: Counter, Gauge: Gauge, Histogram: Histogram}
    try:
        metrics = MultiConnector.build_prom_metrics(config, types, ["engine"], {0: ["0"]})
        metrics.observe(carried)
        begun = REGISTRY.get_sample_value("caesura:copied_tokens_total", {"engine": "0"})
    finally:
        unregister_metrics()
    assert begun


class Published:
    """What would be sent to those who listen."""

    def __init__(self) -> None:
        self.events: list[KVCacheEvent] = []

    def publish(self, batch: KVEventBatch) -> None:
        self.events += batch.events

    def shutdown(self) -> None:
        pass

    def on_host(self) -> list[Any]:
        return [event for event in self.events if getattr(event, "medium", None) == "CPU"]


def names(events: list[Any]) -> set[object]:
    return {
        name for event in events if isinstance(event, BlockStored) for name in event.block_hashes
    }


@pytest.mark.parametrize("is_among_others", [False, True])
def test_an_index_learns_of_every_copy_and_finds_a_context_by_its_tokens(
    tmp_path: Path, is_among_others: bool
) -> None:
    other = beside(tmp_path) if is_among_others else None
    stage = Stage(Shape(**SWAPPING, kv_events=True, beside=other))
    published = stage.scheduler.kv_event_publisher = Published()
    session = stage.session("session", 100)
    stage.run()
    tokens = session.transcript.tokens
    stored = published.on_host()
    assert stored
    assert all(isinstance(event, BlockStored) for event in stored)
    parent = None
    for position, event in enumerate(stored):
        begin = position * BLOCK_SIZE
        assert event.token_ids == tokens[begin : begin + BLOCK_SIZE]
        assert event.parent_block_hash == parent
        assert event.block_size == BLOCK_SIZE
        (parent,) = event.block_hashes
    on_device = [event for event in published.events if event not in stored]
    known = {
        each for event in on_device if isinstance(event, BlockStored) for each in event.block_hashes
    }
    assert {each for event in stored for each in event.block_hashes} <= known, "under one name"


def test_an_index_learns_what_host_memory_has_no_more() -> None:
    stage = Stage(Shape(**{**SWAPPING, "host_blocks": 8}, kv_events=True))
    published = stage.scheduler.kv_event_publisher = Published()
    for name in "abcd":
        session = stage.session(name, 90)
        stage.run()
        stage.extend(session, 4)
        stage.run()
        close(stage, name)
    now: set[object] = set()
    for event in published.on_host():
        hashes = set(event.block_hashes)
        if isinstance(event, BlockRemoved):
            assert hashes <= now
            now -= hashes
        else:
            assert not hashes & now
            now |= hashes
    host = stage.host
    assert now == {maybe_convert_block_hash(name) for name in host._slots if host.is_filled(name)}
    assert any(isinstance(event, BlockRemoved) for event in published.on_host())
    stage.scheduler.reset_prefix_cache()
    stage.request("after", 40, 2)
    stage.run()
    gone = [event for event in published.on_host() if isinstance(event, BlockRemoved)]
    assert {each for event in gone for each in event.block_hashes} >= now


def test_without_listeners_nothing_is_kept_for_them() -> None:
    stage = Stage(Shape(**SWAPPING))
    stage.session("session", 100)
    stage.run()
    connector = stage.scheduler.connector
    assert isinstance(connector, CaesuraConnector)
    assert list(connector.take_events()) == []
