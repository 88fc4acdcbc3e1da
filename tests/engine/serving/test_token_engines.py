"""What becomes of a turn's sampling on its way to vLLM."""

from caesura.endpoints import endpoint_name
from caesura.engine.protocol import ENDPOINT_ARGUMENT
from caesura.engine.serving.token_engines import to_vllm
from caesura.session.protocol import Sampling


def test_what_a_turn_waits_for_can_be_sent_to_the_engine() -> None:
    for text in ("search", "a|b", "\ud800"):
        sent = to_vllm(Sampling(max_tokens=1), text).extra_args
        assert sent == {ENDPOINT_ARGUMENT: endpoint_name(text)}
    assert to_vllm(Sampling(max_tokens=1), None).extra_args is None
