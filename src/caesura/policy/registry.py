"""Policies by name, with their options."""

import dataclasses
import importlib
from collections.abc import Mapping
from enum import StrEnum
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

OptionValue = float | str
"""Of a policy's option: a number, or a word such as "arrival"."""

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
    """Names of the options that a policy takes: its fields that are numbers or one of some words,
    and those of the reclaim rule if it has one."""
    policy = _policy_class(name)
    return set(_options(policy)) | set(_options(ReclaimRule) if _has_reclaim_rule(policy) else ())


def make_policy(name: str, options: Mapping[str, OptionValue] | None = None) -> Policy:
    """Build a policy.

    Args:
        name: one of `policy_names()`, or `module:Class` for a policy of your own: a dataclass
            with the methods of `Policy` (most of which `PolicyDefaults` has), and a field
            `reclaim: ReclaimRule` if it uses that rule.
        options: fields of the policy (such as `ttl_seconds`) and of its `ReclaimRule`.

    Raises:
        ValueError: no such policy, option or value; the message lists what there is.
    """
    policy = _policy_class(name)
    options = dict(options or {})
    unknown = options.keys() - policy_options(name)
    if unknown:
        known = ", ".join(sorted(policy_options(name)))
        raise ValueError(
            f"policy {name!r} has no option {', '.join(sorted(unknown))}; it takes: {known}"
        )
    kinds = _options(policy)
    own: dict[str, Any] = {
        key: _value(name, key, options[key], kinds[key]) for key in options.keys() & kinds.keys()
    }
    if _has_reclaim_rule(policy):
        kinds = _options(ReclaimRule)
        rule = {
            key: _value(name, key, options[key], kinds[key]) for key in options if key not in own
        }
        own["reclaim"] = ReclaimRule(**rule)
    made: Policy = policy(**own)
    return made


def _options(kind: type[Any]) -> dict[str, type[float] | type[StrEnum]]:
    """Fields that are options: numbers, or one of some words."""
    words = {
        field.name: type(field.default)
        for field in dataclasses.fields(kind)
        if isinstance(field.default, StrEnum)
    }
    numbers = {
        field.name: float
        for field in dataclasses.fields(kind)
        if isinstance(field.default, (int, float))
    }
    return {**words, **numbers}


def _value(policy: str, option: str, value: OptionValue, kind: type[float] | type[StrEnum]) -> Any:
    try:
        return kind(value) if issubclass(kind, float) else kind(str(value))
    except ValueError:
        words = None if issubclass(kind, float) else ", ".join(kind)
        expected = f"one of: {words}" if words else "a number"
        raise ValueError(
            f"option {option} of policy {policy!r} is {value!r}; it takes {expected}"
        ) from None


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
