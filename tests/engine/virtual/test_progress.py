"""Reports of how far what a paused session waits for has come."""

from caesura.policy.progress import Progress
from engine.virtual.engine import Shape
from engine.virtual.stage import Stage

PRESERVE = {"policy": "preserve", "check_integrity": True}
WITH_HOST_MEMORY = Shape(connected=True, host_blocks=64, options=PRESERVE)


def test_the_latest_report_is_kept_with_the_pause() -> None:
    stage = Stage(Shape(options=PRESERVE))
    stage.session("session", 60)
    stage.run()
    pause = stage.scheduler.keeper.table.get("session")
    assert pause is not None
    assert pause.progress is None
    stage.engine.now_seconds = pause.paused_seconds + 2.0
    stage.scheduler.report_progress("session", 0.25, None)
    assert pause.progress == Progress(total_seconds=8.0, confidence=0.25)
    stage.scheduler.report_progress("session", None, 1.0)
    assert pause.progress == Progress(total_seconds=3.0, confidence=1.0)


def test_reports_for_sessions_that_do_not_pause_are_ignored() -> None:
    stage = Stage(Shape(options=PRESERVE))
    session = stage.session("session", 60)
    stage.scheduler.report_progress("session", 0.5, None)
    stage.scheduler.report_progress("nobody", 0.5, None)
    stage.run()
    pause = stage.scheduler.keeper.table.get("session")
    assert pause is not None
    stage.extend(session, 10)
    stage.scheduler.report_progress("session", 0.5, None)
    assert pause.progress is None
    stage.run()
    assert session.turns == 2


def test_an_idle_engine_looks_at_a_report_where_it_could_act_on_it() -> None:
    """Nothing else would wake it before the session returns."""
    for shape, looks in ((WITH_HOST_MEMORY, True), (Shape(options=PRESERVE), False)):
        stage = Stage(shape)
        stage.session("session", 60)
        stage.run()
        assert not stage.engine.has_work()
        stage.scheduler.report_progress("session", 0.5, None)
        assert stage.engine.has_work() is looks
        stage.run()
        assert not stage.engine.has_work()
