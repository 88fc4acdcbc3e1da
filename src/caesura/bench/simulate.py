"""One simulated run: the production scheduler, a modelled device, a workload."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
import random

from caesura.bench.engines import EngineCounters
from caesura.bench.replay import ReplayProgress, ReplayRecord
from caesura.bench.stats import RunOutcome, RunPlan, measure
from caesura.bench.virtual_replay import virtual_replay
from caesura.bench.workload import SessionSpec
from caesura.engine.headless import HeadlessEngine, HeadlessSettings, total
from caesura.policy.profile import DeviceProfile
from caesura.sim.device import ModelledDevice


@dataclass(frozen=True, slots=True)
class Hashing:
    """Hashes of blocks by position: sessions of a class share their first tokens."""

    block_size: int
    shared_tokens: int = 0

    def __call__(self, session: str, index: int) -> bytes:
        name = session
        if (index + 1) * self.block_size <= self.shared_tokens:
            name = "shared"
        return f"{name}#{index}".encode()
