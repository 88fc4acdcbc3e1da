"""What a server says on a socket beside the events of responses."""

from dataclasses import dataclass, field
from enum import StrEnum
from secrets import token_hex
from typing import Any

from caesura.server.errors import error_body
from caesura.server.socket.client_events import Inject, Steer

Json = dict[str, Any]


class SteerError(StrEnum):
    """Why a steer does nothing."""

    NOT_FOUND = "response_not_found"
    INVALID = "invalid_input"
    NOT_SUPPORTED = "steering_not_supported"
    TOO_MANY = "too_many_pending_steers"
    COMPLETED = "response_already_completed"
    NOT_ACTIVE = "response_not_active"
    NO_SUCCESSOR = "successor_creation_failed"


SAID = {
    SteerError.NOT_FOUND: "this connection has no response of that id",
    SteerError.INVALID: "the input cannot be taken",
    SteerError.NOT_SUPPORTED: "responses of this kind cannot be steered",
    SteerError.TOO_MANY: "too many steers wait for this response",
    SteerError.COMPLETED: "the response has been completed: continue it with response.create",
    SteerError.NOT_ACTIVE: "the response has ended",
    SteerError.NO_SUCCESSOR: "the response that would have followed could not be made",
}


@dataclass(frozen=True, slots=True)
class AcceptedSteer:
    """A steer that has an id.

    Attributes:
        steer: the steer.
        id: by which the client knows it.
    """

    steer: Steer
    id: str = field(default_factory=lambda: f"steer_{token_hex(16)}")

    def accepted(self) -> Json:
        """It is queued."""
        return {"type": "response.steer.accepted", "steer": self._named()}

    def pending(self, required: list[Json]) -> Json:
        """Its response waits for the client.

        Args:
            required: what the next request has to answer.
        """
        return {
            "type": "response.steer.pending",
            "steer": self._named(),
            "reason": "waiting_for_required_input",
            "required_input": required,
        }

    def failed(self, code: SteerError, message: str | None = None) -> Json:
        """It will not be applied; its input is given back."""
        return steer_failed(self.steer, code, message, self.id)

    def _named(self) -> Json:
        return {"id": self.id, "previous_response_id": self.steer.target}


def steer_failed(
    steer: Steer, code: SteerError, message: str | None = None, steer_id: str | None = None
) -> Json:
    """A steer that is not taken."""
    named: Json = {} if steer_id is None else {"id": steer_id}
    return {
        "type": "response.steer.failed",
        "steer": {**named, "previous_response_id": steer.target, "input": steer.input},
        "error": {
            "type": "invalid_request_error",
            "code": code.value,
            "message": message or SAID[code],
        },
    }


def injected(inject: Inject) -> Json:
    """Results are queued."""
    return {"type": "response.inject.created", "response_id": inject.target}


def inject_failed(inject: Inject, code: SteerError, message: str | None = None) -> Json:
    """Results that are not taken."""
    return {
        "type": "response.inject.failed",
        "response_id": inject.target,
        "input": inject.input,
        "error": {"code": code.value, "message": message or SAID[code]},
    }


def error_event(error: Exception, stream_id: str | None = None) -> Json:
    """What is wrong with a message, or with a response that has not begun."""
    status, body = error_body(error)
    details = body.error.model_dump()
    details["code"] = details["code"] or details["type"]
    return of_lane({"type": "error", "status": status, "error": details}, stream_id)


def of_lane(event: Json, stream_id: str | None) -> Json:
    """An event with the name of its lane, if that has one."""
    return event if stream_id is None else {**event, "stream_id": stream_id}
