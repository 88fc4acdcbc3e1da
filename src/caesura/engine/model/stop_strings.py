"""Whether an output ended at one of its stop strings.

vLLM looks for them in its API process, and aborts the request in the engine, where that looks as
if its client had left.
"""

from collections.abc import Callable, Sequence

from vllm.config import ModelConfig
from vllm.tokenizers import cached_tokenizer_from_config

from caesura.engine.model.tool_names import Tokenizer

TAIL_TOKENS = 96
"""Read of an output: tokens that were sampled before the abort came may follow the string."""
LONGEST_STRING = 256
"""Characters: a longer stop string is not looked for."""


class StopStrings:
    """Finds stop strings at the end of outputs.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def ended(self, output: Sequence[int], strings: Sequence[str]) -> bool:
        """Whether one of them is among the last tokens of an output."""
        text = self._tokenizer.decode(list(output[-TAIL_TOKENS:]), skip_special_tokens=False)
        return any(0 < len(each) <= LONGEST_STRING and each in text for each in strings)


def stop_strings(model_config: ModelConfig) -> Callable[[Sequence[int], Sequence[str]], bool]:
    """What finds the stop strings of a model's outputs; vLLM has none without a tokenizer."""
    if model_config.skip_tokenizer_init:
        return lambda output, strings: False
    return StopStrings(cached_tokenizer_from_config(model_config)).ended
