"""What pauses wait for: names, of which any text can be made one, and of which there are few."""

import re
from collections import Counter
from hashlib import blake2b

CLIENT = "client"
"""The client, for what it has not said."""

HUMAN = "human"
"""A human's answer or approval."""

CODE = "code"
"""What the client does when a turn has ended at a stop string: it runs what was written."""

OTHER = "other"
"""Any of those past the number of names that there may be."""

NAMES_PER_OWNER = 64
"""Names that one owner can introduce: what is learned and counted is kept by name."""

NAMES_IN_ALL = 512
"""Names that all owners can introduce together."""

_PLAIN = re.compile(r"[\w.:+-]{1,64}", re.ASCII)
_UNUSUAL = re.compile(r"[^\w.:+-]+", re.ASCII)
_SHOWN_CHARACTERS = 40
_DIGESTED_CHARACTERS = 4096


def endpoint_name(text: str) -> str:
    """A name for any text: at most 64 characters of `[A-Za-z0-9_.:+-]`.

    A text that is such a name stays as it is. Of any other the beginning is kept as far as it can
    be, followed by a digest, which covers the length and the first 4,096 characters. Names can
    be sent between processes, and be labels of metrics and values of headers.
    """
    if _PLAIN.fullmatch(text):
        return text
    digested = f"{len(text)} {text[:_DIGESTED_CHARACTERS]}".encode("utf-8", "surrogatepass")
    shown = _UNUSUAL.sub("_", text[:_SHOWN_CHARACTERS]).strip("_")
    return f"{shown or 'name'}-{blake2b(digested, digest_size=8).hexdigest()}"


class EndpointNames:
    """The names that pauses of an engine have had; past the limits they are all `OTHER`.

    A name stays known, since metrics do not forget any, and counts for the owner that had it first.
    """

    def __init__(self, per_owner: int = NAMES_PER_OWNER, in_all: int = NAMES_IN_ALL) -> None:
        self._per_owner = per_owner
        self._in_all = in_all
        self._known = {CLIENT, HUMAN, CODE, OTHER}
        self._introduced: Counter[str | None] = Counter()  # by owner

    def admit(self, text: str, owner: str | None) -> str:
        """The name of what an owner's pause waits for."""
        name = endpoint_name(text)
        if name in self._known:
            return name
        if self._introduced[owner] >= self._per_owner or self._introduced.total() >= self._in_all:
            return OTHER
        self._known.add(name)
        self._introduced[owner] += 1
        return name
