"""Structured output of sessions in place: each turn is a text of its own."""

from vllm.logger import init_logger
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar
from vllm.v1.structured_output.request import StructuredOutputRequest

logger = init_logger(__name__)


def begin_turn(session: Request, manager: StructuredOutputManager) -> bool:
    """Give a session with new sampling parameters the grammar of its next turn, at its start.

    It is there at once: an iteration in flight still asks for a mask, whose token is dropped.

    Returns:
        Whether that went well. It does for all grammars that were checked when they came.
    """
    before = session.structured_output_request
    following = StructuredOutputRequest.from_sampling_params(session.sampling_params)
    if following is not None and before is not None:
        grammar = before.grammar
        same = before.structured_output_key == following.structured_output_key
        if same and isinstance(grammar, StructuredOutputGrammar) and not grammar.is_terminated():
            grammar.reset()
            return True
    session.structured_output_request = following
    if following is not None:
        try:
            following.grammar = manager._create_grammar(session)
        except Exception:  # of any backend; it ends this session, not the engine
            logger.exception("no grammar for the next turn of session %s", session.request_id)
            session.structured_output_request = None
            return False
    return True
