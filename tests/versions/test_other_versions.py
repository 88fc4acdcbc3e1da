"""The contract and virtual tests pass on the other versions of vLLM that Caesura runs on."""

import os

import pytest
from vllm.version import __version__

from caesura.engine.versions import TESTED_VERSIONS, base_version
from versions import run

OTHERS = [version for version in TESTED_VERSIONS if version != base_version(__version__)]


@pytest.mark.engine  # takes as long as one
@pytest.mark.parametrize("version", OTHERS)
def test_contract_and_virtual_tests_pass(version: str) -> None:
    if os.environ.get("CI") != "true":  # a minute and a half of `make test`
        pytest.skip(f"make contract VLLM={version} fetches its sources, and runs more on them")
    try:
        run.fetch(version)
    except SystemExit as problem:
        pytest.skip(str(problem))
    assert run.run(version, run.QUICK) == 0
