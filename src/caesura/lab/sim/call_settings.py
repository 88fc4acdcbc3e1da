"""What a simulation of function calling runs."""

from typing import Annotated, Self

from cyclopts import Parameter
from pydantic import PositiveInt, model_validator

from caesura.lab.bench.function_calling.bfcl import FIRST_TURNS
from caesura.lab.bench.function_calling.settings import FunctionCallingSettings
from caesura.lab.bench.function_calling.styles import Style
from caesura.lab.bench.settings import DEMO, ModelName
from caesura.lab.settings import ENGINE, ByteSize, Distinct, NonNegativeFloat, PositiveFloat

_NOT_HERE = Parameter(parse=False)  # settings of engines that are started


class CallSimulationSettings(FunctionCallingSettings):
    """A comparison of modes in virtual time.

    Attributes:
        suite: Whose known answers are written: bfcl-first-turns, bfcl-parallel, bfcl-multi-step,
            bfcl-multi-step-parallel.
        modes: As in `caesura bench calls`, but for futures. In requests each request costs
            --request-ms, and else what sync costs.
        token_ms: Milliseconds to decode a token; one comparison for each.
        request_ms: What a request costs before its first token, in milliseconds.
        sessions: So many cases at once, in async mode, and policies compared instead of modes.
        policies: What is compared with --sessions; beside those of `caesura serve`, trap-rule:
            AsyncLM's (keep a context if giving it up costs more time than the wait).
        kv_tokens: Device memory for KV caches, in tokens of 128 KiB.
        host_memory_bytes: Host memory for copies, such as 8GB.
    """

    suite: str = FIRST_TURNS
    modes: Distinct[Style] = (Style.REQUESTS, Style.SYNC, Style.SYNC_PARALLEL, Style.ASYNC)
    token_ms: Annotated[Distinct[PositiveFloat], Parameter(group=ENGINE)] = (1.0, 3.3, 5.0, 15.0)
    request_ms: Annotated[NonNegativeFloat, Parameter(group=ENGINE)] = 59.0
    kv_tokens: Annotated[PositiveInt, Parameter(group=ENGINE)] = 2**16
    host_memory_bytes: Annotated[ByteSize, Parameter(group=ENGINE)] = 8 * 10**9
    model: Annotated[ModelName, _NOT_HERE] = None
    dtype: Annotated[str, _NOT_HERE] = "bfloat16"
    threads: Annotated[int, _NOT_HERE] = 1
    kv_memory_bytes: Annotated[int, _NOT_HERE] = 0

    @model_validator(mode="after")
    def _check_simulated(self) -> Self:
        if self.suite == DEMO:
            raise ValueError("the demo's model decides itself: simulate one of the other suites")
        if Style.FUTURES in self.modes:
            raise ValueError("futures are not simulated: measure them with `caesura bench calls`")
        return self
