"""Token ids for the turns of a workload, which is numbers only."""

import zlib
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from caesura.lab.bench.workload import WorkloadError, WorkloadSession


class _Stream(IntEnum):
    """Separates the random streams that share one seed."""

    OWN = 0
    SHARED = 1


@dataclass(frozen=True)
class Prompts:
    """Random token ids, the same for the same seed, session index and lengths.

    Sessions get tokens of their own, so that no prefix is shared between them by accident
    (identical prompts are prefix-cache hits and hide the cost that is measured).

    Attributes:
        vocab_size: token ids are below it.
        seed: of all ids.
        reserved_token_ids: ids that never occur (special and control tokens).
        shared_prefix_tokens: first tokens of the first prompt that all sessions of one kind
            have in common. They replace as many tokens of the prompt, so lengths do not
            change; a prompt keeps at least one token of its own.
    """

    vocab_size: int
    seed: int
    reserved_token_ids: frozenset[int] = frozenset()
    shared_prefix_tokens: int = 0
    _allowed: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.shared_prefix_tokens < 0:
            raise WorkloadError("shared_prefix_tokens cannot be negative")
        reserved = np.fromiter(self.reserved_token_ids, dtype=np.int64)
        allowed = np.setdiff1d(np.arange(self.vocab_size, dtype=np.int64), reserved)
        if not allowed.size:
            raise WorkloadError(f"all {self.vocab_size} token ids of the vocabulary are reserved")
        object.__setattr__(self, "_allowed", allowed)

    def of(self, index: int, session: WorkloadSession) -> list[list[int]]:
        """The appended tokens of each turn of the session that is number `index` of a run."""
        rng = np.random.default_rng((self.seed, _Stream.OWN, index))
        turns = [self._draw(rng, segment.append_tokens) for segment in session.segments]
        shared = min(self.shared_prefix_tokens, len(turns[0]) - 1)
        if shared:
            turns[0][:shared] = self._shared_prefix(session.kind)[:shared]
        return turns

    def _shared_prefix(self, kind: str) -> list[int]:
        rng = np.random.default_rng((self.seed, _Stream.SHARED, zlib.crc32(kind.encode())))
        return self._draw(rng, self.shared_prefix_tokens)

    def _draw(self, rng: np.random.Generator, tokens: int) -> list[int]:
        drawn: list[int] = rng.choice(self._allowed, size=tokens).tolist()
        return drawn
