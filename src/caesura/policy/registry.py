"""Policies by name, with their options."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from caesura.policy.baselines import Discard, End, Preserve, Swap, Ttl
from caesura.policy.infercept import InferCept
from caesura.policy.min_waste import MinWaste
from caesura.policy.peers.augserve import AugServe
from caesura.policy.peers.autellix import Autellix
from caesura.policy.peers.continuum import Continuum
from caesura.policy.peers.thunderagent import ThunderAgent
from caesura.policy.reclaim import ReclaimRule
from caesura.policy.types import Policy

DEFAULT_POLICY = MinWaste.name
_PEERS = (Continuum, Autellix, AugServe, ThunderAgent)
_POLICIES = {
    policy.name: policy
    for policy in (End, Discard, Preserve, Swap, Ttl, InferCept, *_PEERS, MinWaste)
}


def policy_names() -> list[str]:
    """The names that `make_policy` takes."""
    return list(_POLICIES)


def policy_options(name: str) -> set[str]:
    """Names of the options that a policy takes: its fields that are numbers, and those of the
    reclaim rule if it has one."""
    policy = _policy_class(name)
    return _numbers(policy) | (_numbers(ReclaimRule) if _has_reclaim_rule(policy) else set())


def make_policy(name: str, options: Mapping[str, float] | None = None) -> Policy:
    """Build a policy.

    Args:
        name: one of `policy_names()`, or `module:Class` for a policy of your own: a dataclass
            with the methods of `Policy` (most of which `PolicyDefaults` has), and a field
            `reclaim: ReclaimRule` if it uses that rule.
        options: numeric fields of the policy (such as `ttl_seconds`) and of its `ReclaimRule`.

    Raises:
        ValueError: no such policy, or no such option; the message lists what there is.
    """
    policy = _policy_class(name)
    options = dict(options or {})
    unknown = options.keys() - policy_options(name)
    if unknown:
        known = ", ".join(sorted(policy_options(name)))
        raise ValueError(
            f"policy {name!r} has no option {', '.join(sorted(unknown))}; it takes: {known}"
        )
    own: dict[str, Any] = {key: options[key] for key in options.keys() & _numbers(policy)}
    if _has_reclaim_rule(policy):
        own["reclaim"] = ReclaimRule(**{key: options[key] for key in options.keys() - own.keys()})
    made: Policy = policy(**own)
    return made


def _numbers(kind: type[Any]) -> set[str]:
    fields = dataclasses.fields(kind)
    return {field.name for field in fields if isinstance(field.default, (int, float))}


def _has_reclaim_rule(policy: type[Any]) -> bool:
    return any(field.name == "reclaim" for field in dataclasses.fields(policy))


def _policy_class(name: str) -> type[Any]:
    if name in _POLICIES:
        return _POLICIES[name]
    module_name, separator, class_name = name.partition(":")
    if not separator:
        raise ValueError(
            f"unknown policy {name!r}; choose one of: {', '.join(_POLICIES)}, or module:Class"
        )
    try:
        policy = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"policy {name!r} cannot be imported: {error}") from error
    if not (isinstance(policy, type) and dataclasses.is_dataclass(policy)):
        raise ValueError(f"policy {name!r} is not a dataclass")
    return policy
