"""A shortcut for the scheduler without a model: tokens that need no block.

Fifteen of sixteen decoded tokens fill a slot of a block that their request has already. vLLM
finds out through a dozen calls that there is nothing to do, which is most of what a simulation
spends its time on. With the shortcut it is told at once; whatever changes anything still goes
through vLLM's own code, and a test compares every step with and without.
"""

from typing import Any

from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager
from vllm.v1.request import Request


class DecodeShortcut:
    """Stands in for two methods of a `KVCacheManager` with one group of full attention."""

    def __init__(self, manager: KVCacheManager) -> None:
        (group,) = manager.coordinator.single_type_managers
        assert isinstance(group, FullAttentionManager)
        self._manager = manager
        self._allocate = manager.allocate_slots
        self._cache = manager.cache_blocks
        self._blocks_of = group.req_to_blocks
        self._cached_blocks_of = group.num_cached_block
        self._block_size = group.block_size

    def install(self) -> None:
        """Take the place of the manager's methods."""
        self._manager.allocate_slots = self.allocate_slots
        self._manager.cache_blocks = self.cache_blocks

    def allocate_slots(
        self,
        request: Request,
        num_new_tokens: int,
        *arguments: Any,
        num_lookahead_tokens: int = 0,
        **options: Any,
    ) -> KVCacheBlocks | None:
        """As vLLM's; at once if the one new token of a running request has a slot.

        vLLM gives no other options for running requests.
        """
        if num_new_tokens == 1 and not num_lookahead_tokens and not options and not arguments:
            tokens = request.num_computed_tokens + 1
            blocks = self._blocks_of.get(request.request_id)
            if (
                blocks is not None
                and tokens <= len(blocks) * self._block_size
                and tokens <= self._manager.max_model_len
                and not self._fills_a_block(request, tokens)
            ):
                return self._manager.empty_kv_cache_blocks
        return self._allocate(
            request,
            num_new_tokens,
            *arguments,
            num_lookahead_tokens=num_lookahead_tokens,
            **options,
        )

    def cache_blocks(self, request: Request, num_computed_tokens: int) -> None:
        """As vLLM's; at once if no block was filled."""
        if self._fills_a_block(request, num_computed_tokens):
            self._cache(request, num_computed_tokens)

    def _fills_a_block(self, request: Request, computed_tokens: int) -> bool:
        """Whether there is a full block that the prefix cache does not know yet."""
        if not self._manager.enable_caching:
            return False
        cached = self._cached_blocks_of.get(request.request_id, 0)
        return computed_tokens // self._block_size > cached


class ShortcutScheduler(AsyncScheduler):
    """vLLM's scheduler with the shortcut, below whatever a subclass puts around it."""

    decode_shortcut = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.decode_shortcut:
            DecodeShortcut(self.kv_cache_manager).install()
