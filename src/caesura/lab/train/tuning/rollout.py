"""Greedy decoding of many sessions at once by any causal language model, with its own cache.

All sessions take a token per pass. Where interrupts were injected these are fed, and the model is
not asked. Prompts are padded on the left, so that all sessions write in one column.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caesura.cml import Marker
from caesura.lab.train.session_codec import SessionCodec
from caesura.lab.train.session_simulation import Simulation


@torch.no_grad()
def write_all(
    model: Any, codec: SessionCodec, simulations: Sequence[Simulation], most_tokens: int
) -> None:
    """Let the model write all sessions, until they are over or have written `most_tokens`.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        codec: of the model.
        simulations: sessions, at least one.
        most_tokens: beyond the longest prompt.
    """
    rollout = _Rollout(model, codec, simulations)
    longest = max(len(simulation.tokens) for simulation in simulations) + most_tokens
    while rollout.live:
        rollout.step()
        rollout.drop([len(s.tokens) > longest or s.is_over for s in rollout.live])


class _Rollout:
    """The sessions that go on, their cache, and how much of each was fed."""

    def __init__(self, model: Any, codec: SessionCodec, simulations: Sequence[Simulation]) -> None:
        self.live = list(simulations)
        self._model = model
        self._forbidden = codec.symbols[Marker.INTR]
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        prompts = [simulation.tokens for simulation in self.live]
        width = max(map(len, prompts))
        tokens = [[codec.pad] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._fed = [len(prompt) for prompt in prompts]
        self._mask = torch.tensor(mask, device=model.device)
        self._cache: Any = None
        self._scores = self._feed(torch.tensor(tokens, device=model.device))

    def step(self) -> None:
        """One token for each session: a sampled one, or the next of what was injected."""
        choices: list[int] = self._scores.argmax(-1).tolist()
        for row, simulation in enumerate(self.live):
            # What is refused is sampled again behind the interrupt that took its place.
            if self._fed[row] == len(simulation.tokens):
                simulation.offer(choices[row])
        tokens = [self._next(row, simulation) for row, simulation in enumerate(self.live)]
        self._fed = [fed + 1 for fed in self._fed]
        ones = torch.ones_like(self._mask[:, :1])
        self._mask = torch.cat([self._mask, ones], dim=1)
        self._scores = self._feed(torch.tensor(tokens, device=self._mask.device)[:, None])

    def drop(self, ended: Sequence[bool]) -> None:
        """Go on without these."""
        rows = [row for row, is_over in enumerate(ended) if not is_over]
        if len(rows) == len(self.live) or not rows:
            self.live = [self.live[row] for row in rows]
            return
        index = torch.tensor(rows, device=self._mask.device)
        self.live = [self.live[row] for row in rows]
        self._fed = [self._fed[row] for row in rows]
        self._mask, self._scores = self._mask[index], self._scores[index]
        self._cache.batch_select_indices(index)

    def _next(self, row: int, simulation: Simulation) -> int:
        """The token to feed; of a session that has just ended its last, which changes nothing."""
        return simulation.tokens[min(self._fed[row], len(simulation.tokens) - 1)]

    def _feed(self, tokens: Tensor) -> Tensor:
        """Feed tokens; the scores of what follows the last."""
        inputs = {"input_ids": tokens, "attention_mask": self._mask}
        if self._takes_positions:
            positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
            inputs["position_ids"] = positions[:, -tokens.shape[1] :]
        output = self._model(**inputs, past_key_values=self._cache, use_cache=True)
        self._cache = output.past_key_values
        scores: Tensor = output.logits[:, -1].float()
        scores[:, self._forbidden] = -torch.inf
        return scores
