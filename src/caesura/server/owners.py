"""The owner of a request: one rule for client turns, sessions and approvals.

An owner is a digest of the API key, since keys are not to be kept, and of a secret that is kept
beside the sessions, so that nobody can try keys on owners alone. It is stored with each session,
so the rule must not change. A key that the server does not check names nobody.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_bytes

from starlette.datastructures import Headers

from caesura.session.store import keyed_owner

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Owners:
    """Tells owners apart; in `app.state.caesura_owners`.

    Attributes:
        has_keys: whether the server asks for API keys; if not, everybody is one owner.
        secret: of the installation. Where no sessions are stored it is a new one in each process.
    """

    has_keys: bool
    secret: bytes = field(default_factory=lambda: token_bytes(32), repr=False)

    def of(self, headers: Headers) -> str:
        """The owner of a request with these headers."""
        key = given_key(headers)
        if not self.has_keys or not key:
            return ANONYMOUS
        return keyed_owner(self.secret, sha256(key.encode()).hexdigest())


def given_key(headers: Headers) -> str:
    """The API key of a request: OpenAI's header, or else Anthropic's; empty if there is none."""
    if (authorization := headers.get("authorization")) is None:
        return headers.get("x-api-key", "")
    scheme, _, key = authorization.partition(" ")
    return key if scheme.lower() == "bearer" else ""
