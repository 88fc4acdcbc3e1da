"""A model's chat format, with vLLM's parser of its own tool calls."""

from vllm.config import ModelConfig
from vllm.parser.parser_manager import ParserManager

from caesura.engine.model.chat_format import ChatFormat
from caesura.lab.bench.function_calling.native_format import TOOL_PARSER


def native_dialogue(model_config: ModelConfig, tokenizer: object) -> ChatFormat:
    """What sessions without CML need to know of a model."""
    parser = ParserManager.get_parser(tool_parser_name=TOOL_PARSER, enable_auto_tools=True)
    return ChatFormat(model_config, tokenizer, parser)
