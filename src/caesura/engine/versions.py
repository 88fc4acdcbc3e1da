"""Which vLLM versions Caesura runs on, and how it says so.

The scheduler interface of vLLM is not public. Each version named here passed `make contract`:
signatures and behaviour, the virtual engine, and the real one on the CPU. What is relied on, and
how another version is added, is in docs/explanation/vllm.md.
"""

import os

from caesura.errors import UnsupportedVersion

TESTED_VERSIONS = ("0.32.0", "0.33.0")
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
        f"Caesura works with vLLM {' and '.join(TESTED_VERSIONS)}; this is {version}. Install one "
        f"of them (pip install 'vllm=={TESTED_VERSIONS[-1]}'), or a Caesura that was tested with "
        f"yours. {OVERRIDE_VARIABLE}=1 tries this one anyway: wrong outputs are possible. To test "
        f"it first: make contract VLLM={base_version(version)} in Caesura's sources."
    )
