"""Policies by name, with their options."""

import dataclasses
import importlib
from collections.abc import Mapping

from caesura.policy.baselines import Discard, End, Preserve, Swap, Ttl
from caesura.policy.reclaim import ReclaimRule
from caesura.policy.types import Policy

_POLICIES = {policy.name: policy for policy in (End, Discard, Preserve, Swap, Ttl)}

DEFAULT_POLICY = Swap.name


def policy_names() -> list[str]:
    """The names that `make_policy` takes."""
    return list(_POLICIES)


def make_policy(name: str, options: Mapping[str, float] | None = None) -> Policy:
    """Build a policy.

    Args:
        name: one of `policy_names()`, or `module:Class` for a policy of your own: a dataclass
            with a `reclaim: ReclaimRule` field and the methods of `Policy`.
        options: fields of the policy (such as `ttl_seconds`) and of `ReclaimRule`.

    Raises:
        ValueError: no such policy, or no such option; the message lists what there is.
    """
    policy = _POLICIES.get(name) or _import_policy(name)
    rule_fields = {field.name for field in dataclasses.fields(ReclaimRule)}
    own_fields = {field.name for field in dataclasses.fields(policy)} - {"reclaim"}
    options = dict(options or {})
    unknown = options.keys() - rule_fields - own_fields
    if unknown:
        known = ", ".join(sorted(rule_fields | own_fields))
        raise ValueError(
            f"policy {name!r} has no option {', '.join(sorted(unknown))}; it takes: {known}"
        )
    rule = ReclaimRule(**{key: options[key] for key in options.keys() & rule_fields})
    return policy(reclaim=rule, **{key: options[key] for key in options.keys() & own_fields})


def _import_policy(name: str) -> type:
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
