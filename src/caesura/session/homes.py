"""Which of several engines a conversation runs on: the one that has computed its beginning; a new
one goes where the fewest tokens are in charge."""

from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

REMEMBERED = 2**16
"""Beginnings, and names of conversations, that are remembered at most."""

ENDS_IN_CHUNK = 256
"""Turns that end in the same chunk of the same tokens, of which so many are remembered."""

_TOKEN = "q"
_CHUNK_TOKENS = 16
_CHUNK_BYTES = _CHUNK_TOKENS * array(_TOKEN).itemsize


@dataclass(frozen=True, slots=True)
class Home:
    """Where a request runs.

    Attributes:
        engine: by its index in the server.
        domain: requests of other domains find nothing of its contexts.
    """

    engine: int
    domain: Hashable


class Homes:
    """The homes of a server's conversations.

    A conversation is known by its tokens, as its KV is: by where its turns end, since requests that
    only begin alike, with the same system message, are others. No client has to name it.

    Args:
        engines: how many there are now.
    """

    def __init__(self, engines: Callable[[], int] = lambda: 1) -> None:
        self._engines = engines
        # By the chunks before the end of a turn, and what is behind them; least recently used
        # first. Names of conversations have nothing behind them.
        self._ends: OrderedDict[Hashable, OrderedDict[bytes, int]] = OrderedDict()
        self._reported: dict[int, int] = {}
        self._placed: Counter[int] = Counter()  # since the last report
        self._charges: Counter[int] = Counter()

    def of(
        self,
        token_ids: Sequence[int],
        *,
        domain: Hashable = None,
        session_id: str | None = None,
        engine: int | None = None,
    ) -> Home | None:
        """The home of a request; None where there is one engine.

        Args:
            token_ids: its prompt.
            domain: what separates its contexts from those of others with the same tokens.
            session_id: a name that its conversation has.
            engine: where its client wants it.
        """
        engines = self._engines()
        if engines < 2:
            return None
        tokens = array(_TOKEN, token_ids).tobytes()
        if engine is None:
            engine = self._begun(tokens, domain)
        if engine is None and session_id is not None:
            engine = self._ends.get((domain, session_id), OrderedDict()).get(b"")
        if engine is None or engine >= engines:
            engine = min(range(engines), key=lambda each: self._charges[each])
            self._charge(engine, len(token_ids))
        if session_id is not None:
            self._note((domain, session_id), b"", engine)
        return Home(engine, domain)

    def remember(self, home: Home, token_ids: Sequence[int]) -> None:
        """What goes on from these tokens, a whole turn or a whole prompt of a chat, belongs there.

        A prompt of anything else may be the beginning of many.
        """
        if token_ids:
            tokens = array(_TOKEN, token_ids).tobytes()
            chunks = _chunks(tokens, home.domain)
            self._note(chunks[-1], tokens[(len(chunks) - 1) * _CHUNK_BYTES :], home.engine)

    def report(self, engine: int, tokens: int) -> None:
        """An engine has so many tokens in charge: of requests that run or wait, and of pauses.

        What was placed since its last report may not have reached it yet, and counts until the
        next one.
        """
        if tokens != self._reported.get(engine):
            self._reported[engine] = tokens
            self._charges[engine] = tokens + self._placed.pop(engine, 0)

    def _charge(self, engine: int, tokens: int) -> None:
        self._placed[engine] += tokens
        self._charges[engine] += tokens

    def _begun(self, tokens: bytes, domain: Hashable) -> int | None:
        """The engine of the longest turn that these tokens go on from."""
        chunks = _chunks(tokens, domain)
        for index in range(len(chunks) - 1, -1, -1):
            rest = tokens[index * _CHUNK_BYTES :]
            tails = self._ends.get(chunks[index], ())
            # The same prompt once more is another conversation.
            begun = [tail for tail in tails if rest.startswith(tail) and len(tail) < len(rest)]
            if begun:
                return self._ends[chunks[index]][max(begun, key=len)]
        return None

    def _note(self, name: Hashable, tail: bytes, engine: int) -> None:
        tails = self._ends.setdefault(name, OrderedDict())
        self._ends.move_to_end(name)
        tails[tail] = engine
        tails.move_to_end(tail)
        if len(tails) > ENDS_IN_CHUNK:
            tails.popitem(last=False)
        if len(self._ends) > REMEMBERED:
            self._ends.popitem(last=False)


def _chunks(tokens: bytes, domain: Hashable) -> list[int]:
    """A name for no tokens, and one for those up to the end of each whole chunk."""
    names = [hash(domain)]
    for start in range(0, len(tokens) - _CHUNK_BYTES + 1, _CHUNK_BYTES):
        names.append(hash((names[-1], tokens[start : start + _CHUNK_BYTES])))
    return names
