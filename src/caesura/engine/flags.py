"""The vLLM flags that turn Caesura on, from its own options."""

import json
import os
from collections.abc import Mapping
from typing import Any

from caesura.engine.config import SECTION, CaesuraConfig
from caesura.engine.protocol import CONNECTOR_CLASS, CONNECTOR_MODULE

SCHEDULER_CLASS = "caesura.engine.scheduler.InterceptScheduler"


MULTI = "MultiConnector"


def kv_transfer_config(beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """vLLM's `--kv-transfer-config` for Caesura's connector.

    Args:
        beside: that of another connector, which is asked for what Caesura's does not have; or a
            MultiConnector's of several.
    """
    failures = {"kv_load_failure_policy": "recompute"}
    own = {
        "kv_connector": CONNECTOR_CLASS,
        "kv_connector_module_path": CONNECTOR_MODULE,
        "kv_role": "kv_both",
        **failures,
    }
    if beside is None:
        return own
    others = [beside]
    if beside.get("kv_connector") == MULTI:
        others = beside.get("kv_connector_extra_config", {}).get("connectors", [])
    return {
        "kv_connector": MULTI,
        "kv_role": beside.get("kv_role", "kv_both"),
        **failures,
        "kv_connector_extra_config": {"connectors": [own, *others]},
    }


def additional_config(
    config: CaesuraConfig, present: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """vLLM's `--additional-config` with Caesura's section, beside what is there already."""
    section = config.model_dump(mode="json", exclude_defaults=True)
    present = present or {}
    return {**present, SECTION: {**present.get(SECTION, {}), **section}}


def as_flags(
    config: CaesuraConfig,
    present: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> list[str]:
    """The three flags for a `vllm serve` command line; see `additional_config` and
    `kv_transfer_config`."""
    return [
        "--scheduler-cls",
        SCHEDULER_CLASS,
        "--kv-transfer-config",
        json.dumps(kv_transfer_config(beside)),
        "--additional-config",
        json.dumps(additional_config(config, present)),
    ]


def set_cpu_defaults(reserved_cores: int = 1) -> None:
    """Environment for CPU engines, unless the user has set it.

    vLLM reserves one more core per worker when a connector is on, and where that leaves none
    it reserves none at all, so that a two-core machine runs two compute threads against its
    own API process. A host copy needs no core of its own on CPU: reserve what vLLM reserves
    without a connector.
    """
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", str(reserved_cores))
