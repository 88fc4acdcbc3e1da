"""The name of the tool that a finished request calls, by vLLM's parser for the model."""

from collections.abc import Callable, Sequence
from importlib import import_module

from vllm.config import ModelConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.logger import init_logger
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.tool_parsers import ToolParserManager

from caesura.engine.protocol import CML_PARSER, CML_PARSER_PLUGIN
from caesura.errors import ConfigurationError

logger = init_logger(__name__)


def tools_called(
    model_config: ModelConfig, parser_name: str | None
) -> Callable[[Sequence[int]], list[str]] | None:
    """What gives the names of the tools that output tokens call; None without a parser.

    Raises:
        ConfigurationError: see `ToolNames`.
    """
    return None if parser_name is None else ToolNames(model_config, parser_name).called


class ToolNames:
    """Finds tool calls in generated tokens.

    Args:
        model_config: for the tokenizer.
        parser_name: vLLM's name of the tool parser (`--tool-call-parser`).

    Raises:
        ConfigurationError: vLLM has no parser of that name, or it does not fit the tokenizer.
    """

    def __init__(self, model_config: ModelConfig, parser_name: str) -> None:
        if parser_name == CML_PARSER:
            import_module(CML_PARSER_PLUGIN)  # it registers itself
        try:
            parser_class = ToolParserManager.get_tool_parser(parser_name)
        except KeyError as error:
            raise ConfigurationError(
                f"vLLM has no tool parser {parser_name!r}; see `vllm serve --help` for "
                f"--tool-call-parser"
            ) from error
        self._tokenizer = cached_tokenizer_from_config(model_config)
        try:
            self._parser = parser_class(self._tokenizer)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"tool parser {parser_name!r} does not fit this model's tokenizer: {error}"
            ) from error
        self._request = ChatCompletionRequest(messages=[], model="")

    def called(self, output_token_ids: Sequence[int]) -> list[str]:
        """Names of the tools that the output calls, in order; empty when it calls none."""
        text = self._tokenizer.decode(list(output_token_ids), skip_special_tokens=False)
        try:
            parsed = self._parser.extract_tool_calls(text, self._request)
        except Exception:  # parsers are model-specific code; a pause must not depend on them
            logger.exception("the tool parser failed on an output; it counts as no tool call")
            return []
        return [call.function.name for call in parsed.tool_calls]
