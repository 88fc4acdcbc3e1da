"""What became of the contexts that requests came back to, until those requests end.

The report travels with the end of the request, in the dictionary that vLLM passes on for KV
connectors, and only to whoever asked for it: nobody else has to take it out again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.request import Request

from caesura.engine.pauses.pause import Pause
from caesura.engine.protocol import REPORT, wants_report
from caesura.session.returns import ContextReturn


@dataclass(slots=True, eq=False)
class Returns:
    """Reports by request."""

    policy: str
    _by_request: dict[str, ContextReturn] = field(default_factory=dict, init=False)

    def note(self, pause: Pause, held_tokens: int, loaded_tokens: int) -> None:
        """A client's request goes on with a paused context. A session in place has no request of
        its own for each return, and gets no report."""
        if pause.in_place or pause.claimed_by is None or pause.lasted_seconds is None:
            return
        self._by_request[pause.claimed_by] = ContextReturn(
            endpoint=pause.endpoint,
            policy=self.policy,
            disposition=pause.disposition,
            context_tokens=pause.context_tokens,
            held_tokens=held_tokens,
            loaded_tokens=loaded_tokens,
            recomputed_tokens=pause.context_tokens - held_tokens - loaded_tokens,
            paused_seconds=pause.lasted_seconds,
            predicted_seconds=pause.predicted_seconds,
        )

    def attach(self, request: Request, params: dict[str, Any] | None) -> dict[str, Any] | None:
        """What vLLM sends with the end of a request, with the report if it asked for one."""
        report = self._by_request.pop(request.request_id, None)
        if report is None or not wants_report(request):
            return params
        return {**(params or {}), REPORT: asdict(report)}

    def attach_early(
        self, outputs: Mapping[int, EngineCoreOutputs], requests: Mapping[str, Request]
    ) -> None:
        """Put reports on outputs that may be the last ones: at a stop string a turn ends in the
        API process, and the engine has no part in it."""
        open_ended = {
            request_id: report
            for request_id, report in self._by_request.items()
            if (request := requests.get(request_id)) is not None
            and request.sampling_params is not None
            and request.sampling_params.stop
            and wants_report(request)
        }
        if not open_ended:
            return
        for output in (output for each in outputs.values() for output in each.outputs):
            if output.request_id in open_ended and output.kv_transfer_params is None:
                output.kv_transfer_params = {REPORT: asdict(open_ended[output.request_id])}

    def is_empty(self) -> bool:
        """Whether no report is left (integrity check)."""
        return not self._by_request
