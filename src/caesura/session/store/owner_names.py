"""How owners are named in the store."""

import hmac


def keyed_owner(secret: bytes, digest: str) -> str:
    """The name of an owner.

    Args:
        secret: of the installation; without it, names cannot be compared with guessed keys.
        digest: SHA-256 of the owner's API key, in hexadecimal.
    """
    return hmac.digest(secret, digest.encode(), "sha256").hex()
