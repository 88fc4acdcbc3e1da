"""Names that cross between the API process and the scheduler."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line reads these names, and must not wait for vLLM
    from vllm.v1.request import Request

INTERRUPTED = "caesura:interrupted"
"""Stop reason of a turn that appended tokens ended."""

FRAME_ENDED = "caesura:frame"
"""Stop reason of a turn that ends behind a CML frame, its last token."""

BUNDLE_ENDED = "caesura:bundle"
"""Stop reason of a turn that ends where a bundle of CML calls does."""

DETACHED = "caesura:detached"
"""Stop reason with which a session that has been paused too long among too many is let go.

Its engine request is over; the session itself goes on with a new one when it is resumed."""

ENDPOINT_ARGUMENT = "caesura_endpoint"
"""Key in `SamplingParams.extra_args` (`vllm_xargs` over HTTP): what the pause waits for."""

FRAMES_ARGUMENT = "caesura_frames"
"""Key in `SamplingParams.extra_args` of a session in place: see `caesura.engine.model.frames`."""

TOOLS_ARGUMENT = "caesura_tools"
"""Key in `SamplingParams.extra_args`: whether the model was shown any tools; may be missing."""

KEEP_ARGUMENT = "caesura_keep_seconds"
"""Key in `SamplingParams.extra_args`: for how long the request's context is to be kept."""

LONGEST_KEPT_SECONDS = 24 * 3600.0
"""No context is kept for longer because somebody asks for it."""

OWNER_ARGUMENT = "caesura_owner"
"""Key in `SamplingParams.extra_args`: the request's owner. Only the owner continues a pause."""

REPORT = "caesura_report"
"""Key in `SamplingParams.extra_args` of a request that asks what became of its context, and of
the answer in what comes with its end."""


def _argument(request: "Request", key: str) -> Any:
    params = request.sampling_params
    return (params.extra_args or {}).get(key) if params is not None else None


def owner_of(request: "Request") -> str | None:
    """The owner of the request; None if owners are not distinguished."""
    owner = _argument(request, OWNER_ARGUMENT)
    return str(owner) if owner is not None else None


def wants_report(request: "Request") -> bool:
    """Whether the sender of the request reads the report on its context."""
    return bool(_argument(request, REPORT))


def endpoint_of(request: "Request") -> str | None:
    """What the request says that its next pause waits for."""
    endpoint = _argument(request, ENDPOINT_ARGUMENT)
    return endpoint if isinstance(endpoint, str) and endpoint else None


def keep_seconds_of(request: "Request") -> float | None:
    """For how long the request's context is to be kept; None if its sender does not say."""
    seconds = _argument(request, KEEP_ARGUMENT)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        return None
    return min(float(seconds), LONGEST_KEPT_SECONDS)


def may_call_tools(request: "Request") -> bool:
    """Whether the model may have been shown tools."""
    return bool(_argument(request, TOOLS_ARGUMENT) is not False)


CML_PARSER = "caesura_cml"
"""vLLM's name of the tool parser for CML (`--tool-call-parser`)."""

CML_PARSER_PLUGIN = "caesura.engine.model.cml_tool_parser"
"""The module that registers it (`--tool-parser-plugin`), in every process that parses."""

CONNECTOR_CLASS = "CaesuraConnector"
"""vLLM's name of Caesura's KV connector, alone or among others."""

CONNECTOR_MODULE = "caesura.engine.connector"
"""The module that has it."""
