"""Whose a request is: one rule for client turns, sessions and approvals.

An owner is a digest of the API key alone, since keys are not to be kept; it is stored with each
session, so the rule must not change. A key that the server does not check names nobody.
"""

from dataclasses import dataclass
from hashlib import sha256

from starlette.datastructures import Headers

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Owners:
    """Tells owners apart; in `app.state.caesura_owners`.

    Attributes:
        has_keys: whether the server asks for API keys; if not, everybody is one owner.
    """

    has_keys: bool

    def of(self, headers: Headers) -> str:
        """The owner of a request with these headers."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if not self.has_keys or scheme.lower() != "bearer" or not key:
            return ANONYMOUS
        return sha256(key.encode()).hexdigest()
