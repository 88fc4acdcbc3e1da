"""A device that is only a model of its times: iterations, and a link with a backlog."""

from caesura.lab.sim.vllm_engine import Step, StepTimes
from caesura.policy.profile import DeviceProfile


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
