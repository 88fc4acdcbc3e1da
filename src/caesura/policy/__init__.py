"""Pure decisions: what becomes of the KV context of a paused session."""

from caesura.policy.costs import CostModel
from caesura.policy.defaults import PolicyDefaults
from caesura.policy.order import (
    AttainedService,
    OriginalArrival,
    Service,
    SessionOrder,
    displacement_pays,
)
from caesura.policy.registry import (
    DEFAULT_POLICY,
    make_policy,
    policy_names,
    policy_options,
)
from caesura.policy.types import (
    Action,
    CopyAhead,
    CopyOut,
    Demand,
    Disposition,
    Drop,
    DropCopy,
    Expire,
    Keep,
    Load,
    Memory,
    PauseIndex,
    PauseView,
    Plan,
    Policy,
    Prefetch,
    Snapshot,
)

__all__ = [
    "DEFAULT_POLICY",
    "Action",
    "AttainedService",
    "CopyAhead",
    "CopyOut",
    "CostModel",
    "Demand",
    "Disposition",
    "Drop",
    "DropCopy",
    "Expire",
    "Keep",
    "Load",
    "Memory",
    "OriginalArrival",
    "PauseIndex",
    "PauseView",
    "Plan",
    "Policy",
    "PolicyDefaults",
    "Prefetch",
    "Service",
    "SessionOrder",
    "Snapshot",
    "displacement_pays",
    "make_policy",
    "policy_names",
    "policy_options",
]
