"""What tests draw at random: fixed in `make test`, anew in `make fuzz`.

The environment says which, so that every process of a run draws alike:

    CAESURA_FUZZ_SEED     what all draws follow; unset: the fixed ones
    CAESURA_FUZZ_TIMES    how many times the usual number of examples; 1 if unset
    CAESURA_FUZZ_FOUND    a file for what `make fuzz` finds; with it, failures are not made smaller
"""

import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers

_seed = os.environ.get("CAESURA_FUZZ_SEED")
_found = os.environ.get("CAESURA_FUZZ_FOUND")
SEED = None if _seed is None else int(_seed)
TIMES = int(os.environ.get("CAESURA_FUZZ_TIMES", "1"))
FOUND = None if _found is None else Path(_found)


def seed(fixed: int = 0) -> int:
    """The seed of a test's own generator: `fixed`, or that of the fuzzing."""
    return fixed if SEED is None else SEED


def seeds(count: int, *found: int) -> list[int]:
    """Seeds of so many scenarios, and of those that once found a fault."""
    first = seed()
    return [*found, *range(first, first + examples(count))]


def examples(count: int) -> int:
    """How many examples a test draws that usually draws `count`."""
    return count * TIMES


def load_profile() -> None:
    """Make Hypothesis draw as the environment says."""
    # It would also draw constants of the modules that are imported at that moment. What a test
    # draws would then depend on which tests ran before it in the same process.
    providers._get_local_constants = providers.Constants
    profile = settings(
        deadline=None,
        database=None,
        print_blob=True,
        max_examples=examples(50),
        suppress_health_check=[HealthCheck.too_slow],  # small machines stall
    )
    if SEED is None:
        profile = settings(profile, derandomize=True)
    elif FOUND is not None:
        phases = [Phase.explicit, Phase.generate]
        profile = settings(profile, phases=phases, report_multiple_bugs=False)
    settings.register_profile("caesura", profile)
    settings.load_profile("caesura")
