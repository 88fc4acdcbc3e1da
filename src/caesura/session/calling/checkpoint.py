"""Everything that a calling session is opened with."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from caesura.cml import Call
from caesura.session.calling.course import Course


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a session starts: after its first prompt, or where another one was left.

    Attributes:
        token_ids: the transcript, at least up to the course's position.
        course: the state of the model; None after the first prompt.
        pending: calls without a result. The owner runs them and delivers their results.
        used_ids: ids of all calls so far.
    """

    token_ids: Sequence[int]
    course: Course | None = None
    pending: Sequence[Call] = ()
    used_ids: Collection[str] = ()
