"""Caesura's options inside vLLM's configuration, and the checks at start."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from caesura.allowance import memory
from caesura.errors import ConfigurationError
from caesura.policy import DEFAULT_POLICY, make_policy
from caesura.policy_options import Option
from caesura.units import format_size, parse_size

if TYPE_CHECKING:  # the command line reads these options, and must not wait for vLLM
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig

SECTION = "caesura"


class KeepContexts(StrEnum):
    """Which finished requests are kept as pauses (for clients that run their own tools)."""

    AUTO = "auto"  # ended in a call or at a stop string, gave a session id, continued a pause
    ALL = "all"  # every request that stopped by itself
    NONE = "none"  # none: only sessions in place pause


class CaesuraConfig(BaseModel):
    """Options under `caesura` in vLLM's `--additional-config`.

    `caesura serve` makes an option of each; the texts are its help.

    Attributes:
        policy: What becomes of paused contexts: end, discard, preserve, swap, ttl, infercept,
            continuum, autellix, augserve, thunderagent, min-waste.
        policy_options: An option of the policy, such as served_by=arrival. Repeatable.
        host_memory: Host memory for copies of paused contexts, over all ranks, such as 64GiB. 0
            turns host copies off.
        copy_budget: Bytes copied out and in per engine iteration and rank at most, where copies
            are part of iterations (CPU). Elsewhere the limit is what the link moves while an
            iteration computes, and this one holds until that was measured, and while nothing
            is computed.
        keep_contexts: Which finished requests are kept as pauses: auto (ended in a tool call or at
            a stop string, gave a session id, or continued a pause), all, none.
        tool_call_parser: vLLM's tool parser for the model, to find the tool that is called.
        max_pauses: Pauses remembered at most; past it the oldest are forgotten.
        forget_after_seconds: A finished request's pause is forgotten after this many seconds.
        load_in_step: Load a returning context in the iteration that computes its new tokens,
            instead of in one before it. By default on CPU, where loads cannot overlap with
            computation anyway.
        copy_thread: On CPU, copy in a worker thread instead of between iterations.
        profile: What `caesura calibrate` wrote for this model and machine: costs to start from.
            They are measured while serving in any case.
        transcript_memory: Memory for the tokens of what clients were answered, per API process: a
            follow-up request goes on from them, however the chat template would render its
            history. 0 turns that off.
        config_file: Tools that the server runs, and settings of its sessions: a TOML file
            (docs/reference/configuration.md). Without it sessions have no tools, and are kept in
            caesura.db in the working directory.
        allowed_hosts: Names under which clients reach the server, beside those of this machine:
            without an API key requests to other names are refused, with one only if names are
            given. *.example.com for all below it, * for any.
        insecure_no_key: Serve tools to other machines without an API key.
        api_docs: Serve the API's documentation (/docs, /redoc, /openapi.json).
        check_integrity: Check internal invariants whenever the engine is idle (for debugging).
        trace: Write a trace of the engine to this file at shutdown, and at each reset of the prefix
            cache: the second to NAME.1.json, and so on (docs/how-to/trace.md).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = DEFAULT_POLICY
    policy_options: dict[str, Option] = Field(default_factory=dict)
    host_memory: int = Field(default=0, ge=0)
    copy_budget: int = Field(default=64 * 2**20, gt=0)
    keep_contexts: KeepContexts = KeepContexts.AUTO
    tool_call_parser: str | None = None
    max_pauses: int = Field(default=4096, ge=1)
    forget_after_seconds: float = Field(default=3600.0, gt=0)
    load_in_step: bool | None = None
    copy_thread: bool = False
    profile: str | None = None
    transcript_memory: int = Field(default=256 * 2**20, ge=0)
    config_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    insecure_no_key: bool = False
    api_docs: bool = False
    check_integrity: bool = False
    trace: Path | None = None

    @field_validator("host_memory", "copy_budget", "transcript_memory", mode="before")
    @classmethod
    def _parse_size(cls, value: object) -> object:
        return parse_size(value) if isinstance(value, str) else value

    @field_validator("allowed_hosts", mode="after")
    @classmethod
    def _split_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.strip() for host in hosts for name in host.split(",") if name.strip())

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        make_policy(self.policy, self.policy_options)
        if self.policy == "swap" and self.host_memory == 0:
            raise ValueError(
                "policy 'swap' needs host memory: give --host-memory (for example 8GiB), "
                "or choose --policy preserve"
            )
        return self

    @classmethod
    def from_vllm(cls, vllm_config: "VllmConfig") -> Self:
        """Read the options from vLLM's additional config.

        Raises:
            ConfigurationError: an option is unknown or out of range.
        """
        additional: Any = vllm_config.additional_config
        section = additional.get(SECTION, {}) if isinstance(additional, Mapping) else {}
        return cls.parse(section)

    @classmethod
    def parse(cls, section: Mapping[str, object]) -> Self:
        """Validate options, with an error that says which one is wrong and why.

        Raises:
            ConfigurationError: an option is unknown or out of range.
        """
        try:
            return cls.model_validate(dict(section))
        except ValidationError as error:
            lines = [
                f"{'.'.join(str(part) for part in item['loc']) or 'options'}: {item['msg']}"
                for item in error.errors()
            ]
            raise ConfigurationError(
                "Caesura's options (additional_config['caesura']) are not valid:\n  "
                + "\n  ".join(lines)
            ) from error


def block_bytes(kv_cache_config: "KVCacheConfig") -> int:
    """Bytes of one KV block over all layers, on one rank.

    What a layer's page takes cannot be added up from the scheduler's configuration: in it one layer
    stands for all of a group, and their pages may differ in size.
    """
    if not kv_cache_config.kv_cache_tensors or kv_cache_config.num_blocks == 0:
        raise ConfigurationError("this model has no KV cache: there is nothing to pause")
    # Each placement names the size of the allocation that they share.
    return kv_cache_config.kv_cache_tensors[0].size // kv_cache_config.num_blocks


def check_host_memory(host_memory_bytes: int) -> None:
    """Refuse a host pool that the machine cannot hold, or the container.

    Raises:
        ConfigurationError: it is larger than all memory that this process may use.
    """
    allowed = memory()
    if host_memory_bytes > allowed.total_bytes:
        problem = "is more than this machine has"
        if allowed.is_limited:
            problem = "is more than this container may use"
        raise ConfigurationError(
            f"host memory of {format_size(host_memory_bytes)} {problem} "
            f"({format_size(allowed.total_bytes)}); give a smaller --host-memory"
        )
