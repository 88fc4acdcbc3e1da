"""Policies by name, with their options."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from caesura.policy.baselines import Discard, End, Preserve, Swap, Ttl
from caesura.policy.infercept import InferCept
from caesura.policy.min_waste import MinWaste
from caesura.policy.reclaim import ReclaimRule
from caesura.policy.types import Policy

DEFAULT_POLICY = MinWaste.name
_POLICIES = {
    policy.name: policy for policy in (End, Discard, Preserve, Swap, Ttl, InferCept, MinWaste)
}


def policy_names() -> list[str]:
    """The names that `make_policy` takes."""
    return list(_POLICIES)


def policy_options(name: str) -> set[str]:
    """Names of the options that a policy takes."""
    fields = {field.name for field in dataclasses.fields(ReclaimRule)}
    return fields | {field.name for field in dataclasses.fields(_policy_class(name))} - {"reclaim"}


def make_policy(name: str, options: Mapping[str, float] | None = None) -> Policy:
    """Build a policy.

    Args:
        name: one of `policy_names()`, or `module:Class` for a policy of your own: a dataclass
            with a `reclaim: ReclaimRule` field and the methods of `Policy` (most of which
            `PolicyDefaults` has).
        options: fields of the policy (such as `ttl_seconds`) and of `ReclaimRule`.

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
    rule_fields = {field.name for field in dataclasses.fields(ReclaimRule)}
    rule = ReclaimRule(**{key: options[key] for key in options.keys() & rule_fields})
    own = {key: options[key] for key in options.keys() - rule_fields}
    made: Policy = policy(reclaim=rule, **own)
    return made


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
