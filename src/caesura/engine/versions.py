"""Which vLLM versions Caesura runs on, and how it says so.

The scheduler interface of vLLM is not public. Each version named here passed the contract
tests (`tests/engine/test_contract.py`): signatures, and behaviour on the real engine.
"""

import os

from caesura.errors import UnsupportedVersion

TESTED_VERSIONS = ("0.32.0",)
OVERRIDE_VARIABLE = "CAESURA_ALLOW_UNTESTED_VLLM"


def base_version(version: str) -> str:
    """The release without local parts: `0.32.0+cpu` is `0.32.0`."""
    return version.split("+", 1)[0]


def require_tested_vllm(version: str) -> None:
    """Refuse a vLLM that did not pass the contract tests.

    Raises:
        UnsupportedVersion: says which versions work and how to override.
    """
    if base_version(version) in TESTED_VERSIONS or os.environ.get(OVERRIDE_VARIABLE) == "1":
        return
    raise UnsupportedVersion(
        f"Caesura was tested with vLLM {', '.join(TESTED_VERSIONS)}; this is {version}. "
        f"Install a tested version (pip install 'vllm=={TESTED_VERSIONS[-1]}'), or set "
        f"{OVERRIDE_VARIABLE}=1 to try anyway: wrong outputs are possible."
    )
