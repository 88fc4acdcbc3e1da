"""Transcripts in memory: found by their owner, and bounded."""

from server.clients.kept_transcripts import Clock, memory, transcript


def test_only_its_owner_finds_a_transcript() -> None:
    kept, transcripts = transcript("one"), memory()
    transcripts.remember(kept)
    assert transcripts.by_history("alpha", kept.key) is kept
    assert transcripts.by_history("beta", kept.key) is None


def test_the_least_recently_used_gives_way() -> None:
    one, two, three = (transcript(name, 1000) for name in ("1", "2", "3"))
    transcripts = memory(max_bytes=2 * one.size_bytes)
    transcripts.remember(one)
    transcripts.remember(two)
    assert transcripts.by_history("alpha", one.key) is one
    transcripts.remember(three)
    assert transcripts.by_history("alpha", two.key) is None
    assert transcripts.used_bytes == one.size_bytes + three.size_bytes


def test_what_nobody_uses_is_forgotten_in_time() -> None:
    clock = Clock()
    transcripts = memory(clock=clock)
    used, unused = transcript("used"), transcript("unused")
    transcripts.remember(used)
    transcripts.remember(unused)
    clock.seconds = 50
    assert transcripts.by_history("alpha", used.key) is used
    clock.seconds = 100
    assert transcripts.by_history("alpha", unused.key) is None
    assert transcripts.by_history("alpha", used.key) is used
    assert transcripts.used_bytes == used.size_bytes


def test_the_same_history_is_kept_once() -> None:
    transcripts = memory()
    transcripts.remember(transcript("one", tokens=10))
    again = transcript("one", tokens=20)
    transcripts.remember(again)
    assert transcripts.by_history("alpha", again.key) is again
    assert transcripts.used_bytes == again.size_bytes


def test_one_that_is_too_large_drives_no_other_out() -> None:
    small, large = transcript("small"), transcript("large", tokens=100_000)
    transcripts = memory(max_bytes=10_000)
    transcripts.remember(small)
    transcripts.remember(large)
    assert transcripts.by_history("alpha", large.key) is None
    assert transcripts.by_history("alpha", small.key) is small


def test_without_memory_nothing_is_kept() -> None:
    transcripts = memory(max_bytes=0)
    transcripts.remember(transcript("one"))
    assert transcripts.used_bytes == 0
