"""What a CML session needs to go on after a restart, beside its transcript and its calls."""

from collections.abc import Collection, Sequence

from caesura.cml import Call, Interrupt, Point, ProtocolError
from caesura.session.calling import Checkpoint
from caesura.session.records import CallRecord, Course
from caesura.session.shapes import call_of, interrupt_of


class Track:
    """Follows a session's events, so that at each of them what is stored is enough.

    Args:
        course: as it is stored.
        labels: the model's names of all calls so far.

    Attributes:
        labels: see there.
        point: what the stream has come to.
        told: error interrupts that are not injected yet.
        rounds: prompts and injections so far.
    """

    def __init__(self, course: Course | None = None, labels: Collection[str] = ()) -> None:
        course = course or Course()
        self.labels = set(labels)
        self.point = Point[course.point]
        self.told = [Interrupt(call_id, value) for call_id, value in course.told]
        self.rounds = course.rounds
        self._refused = list(course.refused_ids)
        self._generated_tokens = course.generated_tokens
        self._reasoning = course.reasoning

    def mistake(self, error: ProtocolError) -> None:
        """The model made a mistake, and is told."""
        self.told.append(error.interrupt)
        if error.call_id is not None:
            self._refused.append(error.call_id)

    def injected(self, arrived: Collection[Interrupt]) -> None:
        """Interrupts took their place."""
        for one in arrived:
            if one in self.told:  # of equal ones, one for each that arrived
                self.told.remove(one)
        self.point = Point.WRITING
        self.rounds += 1

    def prompted(self) -> None:
        """The model's next turn begins."""
        self.point = Point.WRITING
        self.told.clear()
        self.rounds += 1
        self._generated_tokens, self._reasoning = 0, False

    def written(self, tokens: int, *, reasoning: bool) -> Course:
        """The model has written so many tokens more, maybe into a reasoning block; what is to be
        stored now."""
        self._generated_tokens += tokens
        self._reasoning = reasoning
        return self.course

    @property
    def course(self) -> Course:
        """All of it, to be stored."""
        return Course(
            point=self.point.name,
            generated_tokens=self._generated_tokens,
            reasoning=self._reasoning,
            rounds=self.rounds,
            refused_ids=tuple(self._refused),
            told=tuple((one.id, one.value) for one in self.told),
        )

    def checkpoint(self, transcript: Sequence[int], calls: Sequence[CallRecord]) -> Checkpoint:
        """What a session is opened with to go on here.

        Args:
            transcript: its tokens.
            calls: those whose results are not in it.
        """
        named = [record for record in calls if record.label is not None]
        results = [interrupt_of(record) for record in named if record.result is not None]
        pending: list[Call] = [call_of(record) for record in named if record.result is None]
        return Checkpoint(
            token_ids=tuple(transcript),
            used_ids=[*self.labels, *self._refused],
            pending=pending,
            queued=[*self.told, *results],
            point=self.point,
            generated_tokens=self._generated_tokens,
            reasoning=self._reasoning,
        )
