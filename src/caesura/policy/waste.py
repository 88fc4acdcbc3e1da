"""The waste of InferCept (Abhyankar et al., ICML 2024, arXiv 2402.01869), equations (1) to (5).

Waste is device KV memory times the time for which it produced nothing. All functions return
token-seconds (the bytes per token of the paper, `M`, cancel in every comparison). The paper's
symbols, and the names that they have here:

| symbol | name | meaning |
|---|---|---|
| `C` | `context_tokens` | context of the paused request that only it holds |
| `C_other` | `other_tokens` | context of the other requests that run |
| `C_batch` | `batch_tokens` | all context that is resident in the running batch |
| `T_int` | `pause_seconds` | duration of the interception |
| `T_fwd(x)` | `costs.forward_seconds(x)` | time of an iteration with `x` query tokens |
| `T_swap(x)` | `swap_seconds(x)` | time to transfer `x` tokens one way |
| `S` | `saturation_tokens` | query tokens beyond which iteration time grows linearly |
| `B` | `batch_query_tokens` | query tokens of one iteration |
| `N` | `limit_tokens` | tokens that can be transferred during one iteration |
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from caesura.policy.costs import CostModel
from caesura.policy.types import Disposition


def discard_waste(costs: CostModel, context_tokens: int, other_tokens: int) -> float:
    """Drop, and compute all again in one iteration: `T_fwd(C) * C + T_fwd(C) * C_other`. Eq (1).

    Zero for an empty context.
    """
    if context_tokens <= 0:
        return 0.0
    return costs.forward_seconds(context_tokens) * (context_tokens + other_tokens)


def preserve_waste(context_tokens: int, pause_seconds: float) -> float:
    """Keep on the device while nothing happens: `T_int * C`. Eq (2)."""
    return pause_seconds * context_tokens


def swap_waste(
    swap_seconds: Callable[[int], float], context_tokens: int, batch_tokens: int
) -> float:
    """Copy out and in while the whole batch waits: `2 * T_swap(C) * C_batch`. Eq (3).

    This is the synchronous swap. One within the limit of an iteration (`swap_limit_tokens`)
    is hidden behind computing and wastes about nothing.
    """
    return 2.0 * swap_seconds(context_tokens) * batch_tokens


def chunked_discard_waste(
    costs: CostModel, context_tokens: int, other_tokens: int, chunk_tokens: int
) -> float:
    """Drop, and compute again in `n = ceil(C / chunk)` chunks of even size:
    `T_fwd(C) * C / 2 + n * T_fwd(C / n) * C_other`. Eq (4).

    As published, every chunk is charged a whole iteration, its constant part included, as if
    the others had not run in it. So (4) exceeds (1) where that constant dominates: with
    `T_fwd(x) = a * x + c`, when `(n - 1) * c * C_other > T_fwd(C) * C / 2`. See
    `piggybacked_discard_waste` for chunks that share the iterations of running requests.
    """
    if context_tokens <= 0:
        return 0.0
    own = costs.forward_seconds(context_tokens) * context_tokens / 2
    chunks = _even_chunks(context_tokens, chunk_tokens)
    return own + other_tokens * sum(
        count * costs.forward_seconds(tokens) for count, tokens in chunks
    )


def piggybacked_discard_waste(
    costs: CostModel,
    context_tokens: int,
    other_tokens: int,
    chunk_tokens: int,
    running_query_tokens: int,
) -> float:
    """Eq (4) for chunks that ride along with iterations which run anyway, as in the released
    code: the others lose only the time that a chunk adds, while the context, half of it on
    average, is resident for the whole iterations:
    `n * T_fwd(r + C / n) * C / 2 + n * (T_fwd(r + C / n) - T_fwd(r)) * C_other`,
    where `r` is `running_query_tokens`.
    """
    if context_tokens <= 0:
        return 0.0
    chunks = _even_chunks(context_tokens, chunk_tokens)
    count = sum(count for count, _ in chunks)
    wall_seconds = sum(
        count * costs.forward_seconds(running_query_tokens + tokens) for count, tokens in chunks
    )
    added_seconds = wall_seconds - count * costs.forward_seconds(running_query_tokens)
    return wall_seconds * context_tokens / 2 + added_seconds * other_tokens


@dataclass(frozen=True, slots=True)
class MinWaste:
    """The cheaper of keeping and dropping.

    Attributes:
        disposition: `PRESERVE` or `DISCARD`.
        token_seconds: what it wastes.
    """

    disposition: Disposition
    token_seconds: float


def min_waste(
    costs: CostModel,
    context_tokens: int,
    other_tokens: int,
    chunk_tokens: int,
    pause_seconds: float,
) -> MinWaste:
    """The minimum of (2) and (4) for one request; ties preserve. Eq (5).

    Swapping is no term: within the limit it wastes nothing, so the limit is a resource, handed
    out to the requests that waste most by this measure.
    """
    preserve = preserve_waste(context_tokens, pause_seconds)
    discard = chunked_discard_waste(costs, context_tokens, other_tokens, chunk_tokens)
    if preserve <= discard:
        return MinWaste(Disposition.PRESERVE, preserve)
    return MinWaste(Disposition.DISCARD, discard)


def break_even_seconds(
    costs: CostModel, context_tokens: int, other_tokens: int, chunk_tokens: int
) -> float:
    """Length of a pause for which preserving (2) wastes as much as dropping in chunks (4).

    With `T_fwd(x) = a * x + c` this is about `C_other * (a + c / chunk) + T_fwd(C) / 2`: once a
    context fills some chunks, its length hardly matters. Zero for an empty context.
    """
    if context_tokens <= 0:
        return 0.0
    waste = chunked_discard_waste(costs, context_tokens, other_tokens, chunk_tokens)
    return waste / context_tokens


def chunk_tokens(saturation_tokens: int, running_query_tokens: int) -> int:
    """Tokens to compute again in one iteration: what running requests leave below saturation,
    `S - running query tokens`, and one at least.
    """
    return max(1, saturation_tokens - running_query_tokens)


def swap_limit_tokens(
    costs: CostModel,
    batch_query_tokens: int,
    swap_seconds: Callable[[int], float],
    max_tokens: int,
) -> int:
    """Tokens whose transfer one iteration hides: the largest `N <= max_tokens` with
    `T_swap(N) <= T_fwd(B)`.

    Args:
        costs: gives `T_fwd`.
        batch_query_tokens: `B`, query tokens of the iteration.
        swap_seconds: `T_swap`, non-decreasing.
        max_tokens: upper bound of the answer, such as the size of the device pool.
    """
    hidden_seconds = costs.forward_seconds(batch_query_tokens)
    limit = bisect_right(range(max_tokens + 1), hidden_seconds, key=swap_seconds) - 1
    return max(0, limit)


@dataclass(frozen=True, slots=True)
class SwapBudget:
    """What may be transferred in one iteration (the constraints of the paper).

    ```
    out + in <= limit
    out      <= free host + in
    in + new <= out + free device
    ```

    Attributes:
        limit_tokens: `N`, both directions together.
        free_host_tokens: free host memory.
        free_device_tokens: free device memory.
        new_tokens: tokens that running and new requests add to the device.
    """

    limit_tokens: int
    free_host_tokens: int
    free_device_tokens: int
    new_tokens: int = 0

    def permits(self, out_tokens: int, in_tokens: int) -> bool:
        """Whether these transfers keep all three constraints."""
        return (
            out_tokens + in_tokens <= self.limit_tokens
            and out_tokens <= self.free_host_tokens + in_tokens
            and in_tokens + self.new_tokens <= out_tokens + self.free_device_tokens
        )

    def max_out_tokens(self, in_tokens: int) -> int:
        """The most that can go out when `in_tokens` come in, by limit and host memory."""
        return max(0, min(self.limit_tokens - in_tokens, self.free_host_tokens + in_tokens))

    def max_in_tokens(self, out_tokens: int) -> int:
        """The most that can come in when `out_tokens` go out, by limit and device memory."""
        room = out_tokens + self.free_device_tokens - self.new_tokens
        return max(0, min(self.limit_tokens - out_tokens, room))


@dataclass(frozen=True, slots=True)
class ReleasedProfile:
    """Constants that the authors measured on one machine and released with their code.

    Attributes:
        costs: `T_fwd`.
        swap_tokens_per_iteration: `N` of an iteration at saturation, both directions together.
        saturation_tokens: `S`.
    """

    costs: CostModel
    swap_tokens_per_iteration: int
    saturation_tokens: int

    def swap_seconds(self, tokens: int) -> float:
        """`T_swap`, linear, with `T_swap(N) = T_fwd(S)`."""
        iteration_seconds = self.costs.forward_seconds(self.saturation_tokens)
        return iteration_seconds * tokens / self.swap_tokens_per_iteration


GPT_J_6B_A100 = ReleasedProfile(
    CostModel(seconds_per_token=0.0463e-3, seconds_per_iteration=10e-3, measured=True),
    swap_tokens_per_iteration=605,
    saturation_tokens=384,
)
VICUNA_13B_2X_A100 = ReleasedProfile(
    CostModel(seconds_per_token=0.0279e-3, seconds_per_iteration=15.4e-3, measured=True),
    swap_tokens_per_iteration=319,
    saturation_tokens=384,
)


def _even_chunks(context_tokens: int, chunk_tokens: int) -> tuple[tuple[int, int], ...]:
    """`ceil(C / chunk)` chunks that differ by one token at most, as (count, tokens) pairs."""
    count = -(-context_tokens // max(1, chunk_tokens))
    tokens, longer = divmod(context_tokens, count)
    return ((count - longer, tokens), (longer, tokens + 1))
