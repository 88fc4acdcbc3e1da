"""The chat format of a started engine, with vLLM's parser of the model's own tool calls."""

from vllm.engine.protocol import EngineClient
from vllm.parser.parser_manager import ParserManager

from caesura.engine.model.chat_format import ChatFormat
from caesura.lab.bench.function_calling.native_format import TOOL_PARSER


def native_dialogue(llm: EngineClient, tokenizer: object) -> ChatFormat:
    """What sessions without CML need to know of the engine's model."""
    parser = ParserManager.get_parser(tool_parser_name=TOOL_PARSER, enable_auto_tools=True)
    return ChatFormat(llm.model_config, tokenizer, parser)
