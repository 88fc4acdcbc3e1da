"""A device that is only a model of its times: iterations, and a link with a backlog."""

from dataclasses import dataclass
from typing import Protocol

from caesura.policy.profile import DeviceProfile


@dataclass(frozen=True, slots=True)
class Step:
    """What one iteration does, in the terms that its duration depends on.

    Attributes:
        query_tokens: tokens computed.
        context_tokens: tokens of KV that attention reads, over all requests.
        sequences: requests in the batch.
        attention_pairs: over the requests with more than one token computed, pairs of such a
            token and one before it (`policy.profile.attention_pairs`).
        load_bytes: host to device, asked for in this iteration.
        urgent_bytes: copies that this very iteration waits for, either way.
        store_bytes: device to host.
    """

    query_tokens: int
    context_tokens: int
    sequences: int
    attention_pairs: int = 0
    load_bytes: int = 0
    urgent_bytes: int = 0
    store_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StepTimes:
    """When things of an iteration that starts now are over, in seconds from now."""

    computed: float
    loaded: float
    stored: float


class Device(Protocol):
    """Says how long things take."""

    @property
    def link_bytes_per_second(self) -> float:
        """Copies between device and host memory, one way."""
        ...

    def run(self, step: Step, now_seconds: float) -> StepTimes:
        """Start an iteration."""
        ...


class ModelledDevice:
    """Times from a profile.

    The link has one channel each way, used in order: a copy starts when those before it in its
    direction are over, so a backlog delays what comes after. Copies out start when the
    iteration that fills the blocks is over. Where copies cannot overlap with computation
    (a CPU's own memory) they lengthen the iteration instead.

    Args:
        profile: measured or from data sheets.
        link_bytes_per_second: one way; None for the profile's.
    """

    def __init__(self, profile: DeviceProfile, link_bytes_per_second: float | None = None) -> None:
        self._profile = profile
        self.link_bytes_per_second = link_bytes_per_second or profile.link_bytes_per_second
        self._in_free_at = 0.0
        self._out_free_at = 0.0

    def run(self, step: Step, now_seconds: float) -> StepTimes:
        """Start an iteration."""
        seconds = 0.0
        if step.query_tokens:
            seconds = self._profile.iteration_seconds(
                step.query_tokens, step.context_tokens, step.sequences, step.attention_pairs
            )
        in_bytes = step.load_bytes + step.urgent_bytes
        if not self._profile.link_overlaps:
            seconds += (in_bytes + step.store_bytes) / self.link_bytes_per_second
            return StepTimes(seconds, seconds, seconds)
        if in_bytes:
            starts = max(now_seconds, self._in_free_at)
            self._in_free_at = starts + in_bytes / self.link_bytes_per_second
        if step.urgent_bytes:
            seconds += self._in_free_at - now_seconds
        if step.store_bytes:
            starts = max(now_seconds + seconds, self._out_free_at)
            self._out_free_at = starts + step.store_bytes / self.link_bytes_per_second
        loaded = self._in_free_at - now_seconds if in_bytes else 0.0
        stored = self._out_free_at - now_seconds if step.store_bytes else 0.0
        return StepTimes(seconds, loaded, stored)
