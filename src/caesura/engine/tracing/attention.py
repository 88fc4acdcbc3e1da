"""What the attention of an iteration reads."""

from typing import TYPE_CHECKING

from caesura.policy.profile import attention_pairs

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput


def computed_before(output: "SchedulerOutput") -> dict[str, int]:
    """Tokens of each request of an iteration that were computed before it."""
    cached = output.scheduled_cached_reqs
    computed = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
    computed.update((data.req_id, data.num_computed_tokens) for data in output.scheduled_new_reqs)
    return computed


def attention_of(output: "SchedulerOutput") -> tuple[int, int]:
    """Tokens of context that an iteration's attention reads, with those that it computes, and
    its pairs of prefill attention."""
    scheduled, tokens = output.num_scheduled_tokens, output.total_num_scheduled_tokens
    context = sum(output.scheduled_cached_reqs.num_computed_tokens) + tokens
    context += sum(data.num_computed_tokens for data in output.scheduled_new_reqs)
    if tokens == len(scheduled):
        return context, 0  # one token each: decoding, and a simulation does mostly that
    computed = computed_before(output)
    return context, sum(attention_pairs(n, computed[name]) for name, n in scheduled.items())
