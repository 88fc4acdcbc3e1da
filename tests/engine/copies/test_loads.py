"""Loads for requests: in pieces that fit the budget, or all at once."""

from caesura.engine.copies.batch import CopyBatch
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.copies.loads import Loads, UrgentLoads
from support.engines.blocks import hashes


def host_with(letters: str) -> HostPool:
    host = HostPool(len(letters))
    for block_hash in hashes(letters):
        host.reserve(block_hash)
        host.fill(block_hash)
        host.unpin([block_hash])
    return host


def test_a_load_is_over_with_the_batch_of_its_last_block() -> None:
    loads = Loads(host_with("abc"))
    loads.start("r", hashes("abc"), [7, 8, 9])
    first, second = CopyBatch(0), CopyBatch(1)
    loads.launch(first, 2)
    loads.launch(second, 2)
    assert ([block for _, block in first.loads], first.finished_loads) == ([7, 8], [])
    assert ([block for _, block in second.loads], second.finished_loads) == ([9], ["r"])


def test_requests_are_loaded_for_in_the_order_in_which_they_came() -> None:
    loads = Loads(host_with("abcd"))
    loads.start("r", hashes("ab"), [1, 2])
    loads.start("s", hashes("cd"), [3, 4])
    batch = CopyBatch(0)
    loads.launch(batch, 3)
    assert [block for _, block in batch.loads] == [1, 2, 3]
    assert batch.finished_loads == ["r"]
    assert loads.backlog_blocks == 4, "until the workers report"


def test_what_is_loaded_is_not_replaced_meanwhile() -> None:
    host = host_with("ab")
    loads = Loads(host)
    loads.start("r", hashes("ab"), [1, 2])
    batch = CopyBatch(0)
    loads.launch(batch, 8)
    loads.finish(0, succeeded=True)
    assert host.available_slots == 0
    assert loads.pending
    loads.end({"r"})
    assert host.available_slots == 2
    assert not loads.pending
    assert not loads.has_failed("r")


def test_a_load_with_a_failed_batch_has_failed_until_it_is_forgiven() -> None:
    loads = Loads(host_with("ab"))
    loads.start("r", hashes("ab"), [1, 2])
    for number, succeeded in enumerate((False, True)):
        loads.launch(CopyBatch(number), 1)
        loads.finish(number, succeeded)
    loads.end({"r"})
    assert loads.has_failed("r")
    assert not loads.has_failed("s")
    loads.forgive("r")
    assert not loads.has_failed("r")


def test_urgent_loads_do_not_wait_for_the_budget() -> None:
    host = host_with("abc")
    urgent = UrgentLoads(host)
    urgent.start(hashes("abc"), [4, 5, 6])
    batch = CopyBatch(0)
    urgent.launch(batch, 1)
    assert [block for _, block in batch.urgent_loads] == [4, 5, 6]
    assert host.available_slots == 0
    urgent.finish(0, succeeded=True)
    assert host.available_slots == 3
    assert not urgent.pending
