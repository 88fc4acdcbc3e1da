"""The table of transcripts."""

import sys
from array import array
from collections.abc import Sequence

from caesura.session.database import Statement
from caesura.session.store.table import Table


class TranscriptTable(Table):
    """A row per piece of a transcript; tokens are 32-bit integers, the lowest byte first."""

    def add_tokens(self, session_id: str, first: int, token_ids: Sequence[int]) -> Statement:
        """Tokens at positions `first`, `first + 1`, ... of the transcript."""
        return Statement(
            "INSERT INTO transcript (session_id, first, token_ids) VALUES (?, ?, ?)",
            (session_id, first, _pack(token_ids)),
        )

    async def transcript(self, session_id: str) -> list[int]:
        """All tokens of a session."""
        rows = await self._database.read(
            "SELECT token_ids FROM transcript WHERE session_id = ? ORDER BY first", (session_id,)
        )
        return [token for row in rows for token in _unpack(row[0])]


def _pack(token_ids: Sequence[int]) -> bytes:
    packed = array("I", token_ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpack(blob: bytes) -> "array[int]":
    packed = array("I")
    packed.frombytes(blob)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed
