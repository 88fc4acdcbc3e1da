"""All that a calling session is opened with."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from caesura.cml import Call
from caesura.session.calling.course import Course


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a session goes on. A new one goes on behind its prompt.

    Attributes:
        token_ids: the transcript, at least up to the course's position.
        course: where the model is; None behind the first prompt.
        pending: calls without a result. They are to be run, and their results delivered.
        used_ids: ids of calls so far.
    """

    token_ids: Sequence[int]
    course: Course | None = None
    pending: Sequence[Call] = ()
    used_ids: Collection[str] = ()
