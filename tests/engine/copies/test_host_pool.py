"""Slots of host memory: whose copies stay, and whose are replaced."""

import pytest

from caesura.engine.copies.host_pool import HostPool
from support.engines.blocks import hashes


def filled(slots: int, letters: str) -> HostPool:
    """A pool with readable copies that nobody relies on, the first the least recently used."""
    host = HostPool(slots)
    for block_hash in hashes(letters):
        assert host.reserve(block_hash) is not None
        host.fill(block_hash)
        host.unpin([block_hash])
    return host


def kept(host: HostPool, letters: str) -> str:
    """The letters that have a readable copy."""
    return "".join(
        letter
        for letter, block_hash in zip(letters, hashes(letters), strict=True)
        if host.is_filled(block_hash)
    )


def test_slots_are_given_once() -> None:
    host = HostPool(3)
    slots = [host.reserve(block_hash) for block_hash in hashes("abc")]
    assert sorted(slots, key=str) == [0, 1, 2]
    assert (host.used_slots, host.pinned_slots, host.available_slots) == (3, 3, 0)


def test_a_copy_that_is_being_written_is_there_but_cannot_be_read() -> None:
    host = HostPool(2)
    (a,) = hashes("a")
    host.reserve(a)
    assert a in host
    assert not host.is_filled(a)
    host.fill(a)
    assert host.is_filled(a)


def test_the_least_recently_used_copy_is_replaced() -> None:
    host = filled(3, "abc")
    a, x, y = hashes("axy")
    host.pin(a)
    host.unpin([a])
    host.reserve(x)
    assert kept(host, "abc") == "ac"
    host.reserve(y)
    assert kept(host, "abc") == "a"


def test_a_forgotten_copy_is_replaced_first() -> None:
    host = filled(3, "abc")
    c, x = hashes("cx")
    host.pin(c)
    host.unpin([c], forget=True)
    host.reserve(x)
    assert kept(host, "abc") == "ab"


def test_a_copy_that_somebody_relies_on_is_never_replaced() -> None:
    host = filled(2, "ab")
    a, b, x = hashes("abx")
    assert host.pin(a) != host.pin(b)
    host.pin(a)
    host.unpin([a])
    assert host.available_slots == 0
    assert host.reserve(x) is None
    assert kept(host, "ab") == "ab"


def test_the_slot_of_a_copy_that_nobody_waits_for_any_more_is_free_at_once() -> None:
    host = HostPool(1)
    a, b = hashes("ab")
    slot = host.reserve(a)
    host.unpin([a])
    assert a not in host
    assert host.reserve(b) == slot


def test_the_slot_of_a_copy_that_failed_is_free() -> None:
    host = HostPool(1)
    (a,) = hashes("a")
    host.reserve(a)
    host.drop(a)
    assert (host.used_slots, host.available_slots) == (0, 1)


def test_clearing_leaves_what_somebody_relies_on() -> None:
    host = filled(4, "abc")
    host.pin(hashes("b")[0])
    host.clear_unpinned()
    assert kept(host, "abc") == "b"
    assert host.available_slots == 3


def test_no_pin_is_given_back_twice() -> None:
    host = filled(1, "a")
    with pytest.raises(AssertionError, match="unpinned more often"):
        host.unpin(hashes("a"))
