"""What becomes of a turn's sampling on its way to vLLM, and of outputs on their way back."""

from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import output_processor

from caesura.endpoints import endpoint_name
from caesura.engine.protocol import ENDPOINT_ARGUMENT
from caesura.engine.serving.token_engines import Outputs, to_vllm
from caesura.session.protocol import Sampling


def test_what_a_turn_waits_for_can_be_sent_to_the_engine() -> None:
    for text in ("search", "a|b", "\ud800"):
        sent = to_vllm(Sampling(max_tokens=1), text).extra_args
        assert sent == {ENDPOINT_ARGUMENT: endpoint_name(text)}
    assert to_vllm(Sampling(max_tokens=1), None).extra_args is None


def ended_turn(tokens: list[int]) -> RequestOutput:
    completion = CompletionOutput(0, "", tokens, None, None, finish_reason="stop")
    return RequestOutput("session", None, [], None, [completion], finished=False)


async def test_all_that_came_before_the_reader_is_read() -> None:
    """From vLLM 0.33 on a collector keeps the ends of turns apart."""
    name = "StreamingInputOutputCollector"
    collectors = getattr(output_processor, name, output_processor.RequestOutputCollector)
    collector = collectors(RequestOutputKind.DELTA, "session")
    for tokens in ([1], [2, 3]):
        collector.put(ended_turn(tokens))
    outputs = Outputs(collector)
    outputs.end()
    found: list[int] = []
    while (delta := await outputs.next_delta()) is not None:
        found += delta.token_ids
    assert found == [1, 2, 3]
