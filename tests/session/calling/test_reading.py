"""Where a course is while a model writes, token by token."""

from caesura.cml import Point, ProtocolError, Rules
from caesura.session import Delta, StopReason
from caesura.session.calling import CallIssued, Course, Durations, Mistake, Trapped
from caesura.session.calling.arrivals import Arrivals
from caesura.session.calling.open_calls import OpenCalls
from caesura.session.calling.reading import Reading
from session.calling.byte_model import ByteCodec, written

CODEC = ByteCodec()
CALL = '[CALL]a[HEAD]{"name":"f"}[END]'
WRONG = '[CALL]a[HEAD]{"name":[END]'


def reading(start: Course | None = None) -> Reading:
    return Reading(
        CODEC.monitor(None, ()),
        Rules(),
        OpenCalls(Durations()),
        Arrivals(CODEC, ()),
        1000,
        start or Course(0),
    )


def positions(read: Reading, script: str) -> list[int]:
    """Where the course is behind each token."""
    found = []
    for token in written(script):
        read.take(Delta((token,)), 0.0)
        found.append(read.course.position)
    return found


def test_a_course_is_before_a_frame_until_it_is_complete() -> None:
    read = reading()
    frame = len(written(CALL))
    assert positions(read, f"ab{CALL}c") == [1, 2, *[2] * (frame - 1), 2 + frame, 3 + frame]
    assert read.course.generated_tokens == read.course.position


def test_a_course_is_before_what_is_skipped() -> None:
    read = reading()
    assert positions(read, "a[INTR]b[HEAD]c[END]d") == [1, 1, 1, 1, 1, 6, 7]
    assert len(read.course.errors) == 1


def test_a_mistake_inside_a_frame_belongs_to_no_course_before_its_end() -> None:
    read = reading()
    positions(read, "a[CALL]b[HEAD][TRAP]")
    ((_, first),) = [told for told in read.events if isinstance(told[0], Mistake)]
    assert (first.position, first.errors, first.refused_ids) == (1, (), ())
    positions(read, "[END]")
    assert len(read.course.errors) == 1
    assert read.course.refused_ids == ("b",)


def test_each_event_has_the_course_behind_it() -> None:
    read = reading()
    read.take(Delta(tuple(written(f"ab{CALL}cd"))), 0.0)
    courses = [course for event, course in read.events if isinstance(event, CallIssued)]
    end = 2 + len(written(CALL))
    assert courses == [Course(end, generated_tokens=end)]
    assert read.course.position == end + 2


def test_an_open_bundle_counts_as_complete() -> None:
    read = reading()
    positions(read, CALL)
    assert read.point is Point.CALLED
    assert read.course.point is Point.WRITING


def test_a_turn_that_ends_inside_a_frame_keeps_it() -> None:
    read = reading()
    read.take(Delta(tuple(written("a[CALL]b")), StopReason.LENGTH), 0.0)
    assert read.course.position == 3
    assert read.course.point is Point.ENDED
    (error,) = [event.error for event, _ in read.events if isinstance(event, Mistake)]
    assert isinstance(error, ProtocolError)
    assert read.course.errors == (error.interrupt,)


def test_a_course_goes_on_from_another() -> None:
    start = Course(9, Point.TRAPPED, 5, rounds=3, refused_ids=("x",))
    read = reading(start)
    assert read.course == start
    read.begin_turn(4)
    assert read.course == start.prompted(4) == Course(13, rounds=4, refused_ids=("x",))
    positions(read, WRONG)
    assert read.course.refused_ids == ("x", "a")


def test_a_reasoning_block_is_part_of_the_course() -> None:
    read = reading()
    read.take(Delta((261, *b"hm")), 0.0)
    assert read.course == Course(3, generated_tokens=3, reasoning=True)
    read.take(Delta((262,)), 0.0)
    assert not read.course.reasoning


def test_a_trap_for_nothing_has_its_error_behind_it_at_once() -> None:
    read = reading()
    positions(read, "a[TRAP][END]")
    told = [(type(event), course) for event, course in read.events if event.position == 3]
    assert [kind for kind, _ in told] == [Trapped, Mistake]
    assert told[0][1] == told[1][1] == read.course
    assert len(read.course.errors) == 1
    assert read.course.point is Point.TRAPPED
