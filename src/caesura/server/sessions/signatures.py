"""Signatures of webhooks, as the Standard Webhooks specification defines them (version 1)."""

import base64
import binascii
import hmac
from hashlib import sha256

_PREFIX = "whsec_"
SHORTEST_KEY_BYTES = 24
"""As the specification has it."""
_FEWEST_DIFFERENT_BYTES = 8


def signing_key(secret: str) -> bytes:
    """The key of a secret: the Base64 after `whsec_`, else the text itself.

    Raises:
        ValueError: what follows `whsec_` is no Base64, or the key could be guessed.
    """
    if not secret.startswith(_PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError("what follows whsec_ in the secret is not Base64") from None
    problem = None
    if len(key) < SHORTEST_KEY_BYTES:
        problem = f"has {len(key)} bytes" if key else "is empty"
    elif len({*key}) < _FEWEST_DIFFERENT_BYTES:
        problem = "repeats itself"
    if problem is not None:
        raise ValueError(
            f"the secret {problem}: choose one of at least {SHORTEST_KEY_BYTES} random bytes, for "
            "instance with `openssl rand -base64 32`"
        )
    return key


def signature_headers(key: bytes, message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """Headers that show who sent a body, and when.

    Args:
        key: of `signing_key`.
        message_id: the same for each attempt to deliver the same message.
        seconds: wall-clock time of the attempt.
        body: what is sent.
    """
    signed = f"{message_id}.{seconds}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, signed, sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{signature}",
    }
