"""Whose a request is: one rule for client turns, sessions and approvals.

An owner is a digest of the API key alone, since keys are not to be kept; it is stored with each
session, so the rule must not change. A key that the server does not check names nobody.
"""

import os
from argparse import Namespace
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers

from caesura.server.errors import ApiError

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Owners:
    """Tells owners apart; in `app.state.caesura_owners`.

    Attributes:
        has_keys: whether the server asks for API keys; if not, everybody is one owner.
    """

    has_keys: bool

    @classmethod
    def of_server(cls, args: Namespace) -> "Owners":
        """The owners of a server with vLLM's command line; its option outweighs the variable."""
        return cls(any(args.api_key or [os.environ.get("VLLM_API_KEY")]))

    def of(self, headers: Headers) -> str:
        """The owner of a request with these headers."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if not self.has_keys or scheme.lower() != "bearer" or not key:
            return ANONYMOUS
        return sha256(key.encode()).hexdigest()


def owner_of(request: Request) -> str:
    """The owner of a request.

    Raises:
        ApiError: there is no key, and the server asks for one.
    """
    owners: Owners = request.app.state.caesura_owners
    owner = owners.of(request.headers)
    if owners.has_keys and owner == ANONYMOUS:
        raise ApiError(401, "give an API key: Authorization: Bearer KEY", code="no_api_key")
    return owner


OwnerOf = Annotated[str, Depends(owner_of)]
