"""Known answers in the format of models that do not know CML: calls as Hermes has them."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from caesura.cml import Call
from caesura.cml.frames import JsonObject, json_text
from caesura.errors import ConfigurationError
from caesura.lab.bench.function_calling.plans import ANSWER
from caesura.lab.models.bench_tokenizer import CALL_END, CALL_START, TURN_END

TOOL_PARSER = "hermes"
"""vLLM's name of the format."""


class NativeFormat:
    """Turns of the model in tokens, to be forced.

    Args:
        model: folder of a model whose tokenizer and chat template have the format.

    Raises:
        ConfigurationError: it does not have them.
    """

    def __init__(self, model: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        if any(self._tokenizer.token_to_id(text) is None for text in (CALL_START, TURN_END)):
            raise ConfigurationError(
                f"the model has no tokens {CALL_START} and {TURN_END}, in which the modes requests "
                "and futures write: leave out --model, or these modes"
            )

    def call(self, call: Call) -> list[int]:
        """A turn that makes a call."""
        return self._turn([_written(call.name, call.arguments)])

    def calls(self, calls: Sequence[Call]) -> list[int]:
        """A turn that makes several."""
        return self._turn([_written(call.name, call.arguments) for call in calls])

    def answer(self) -> list[int]:
        """The turn behind the last result."""
        return self._turn([ANSWER])

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, with special ones."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def _turn(self, texts: Sequence[str]) -> list[int]:
        text = "".join(texts) + TURN_END
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _written(name: str, arguments: JsonObject) -> str:
    body = json_text({"name": name, "arguments": arguments})
    return f"{CALL_START}\n{body}\n{CALL_END}"
