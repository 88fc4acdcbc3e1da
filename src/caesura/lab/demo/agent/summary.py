"""What came of all recordings: a table, plain sentences, a JSON file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from caesura.bundled.world import ARCHIVED, usual_seconds
from caesura.cml import Mode
from caesura.lab.demo.agent.play import Recording, token_milliseconds
from caesura.lab.demo.agent.questions import AgentQuestion
from caesura.lab.results_file import Origin, write_results
from caesura.session.calling import CallSpan

_EQUAL = 0.03  # latencies that differ less are called equal


@dataclass(frozen=True, slots=True)
class Round:
    """One question in all modes."""

    question: AgentQuestion
    recordings: dict[Mode, Recording]

    @property
    def is_correct(self) -> bool:
        """Whether it was answered in every mode, so that latencies can be compared."""
        return not any(recording.mistakes for recording in self.recordings.values())

    def ratio(self, mode: Mode) -> float:
        """Latency in a mode, over that in async mode."""
        return self.recordings[mode].seconds / self.recordings[Mode.ASYNC].seconds


def rounds(recordings: Sequence[Recording]) -> list[Round]:
    """The recordings by question, in order, without questions that lack a mode."""
    by_question: dict[str, Round] = {}
    for recording in recordings:
        found = by_question.setdefault(recording.question.text, Round(recording.question, {}))
        found.recordings[recording.mode] = recording
    return [found for found in by_question.values() if len(found.recordings) == len(Mode)]


def table(played: Sequence[Round]) -> Table:
    """Latencies in seconds, and those of other modes over that of async. The sums are over what
    was correct in all modes."""
    shown = Table(title="Seconds to the end of the answer", title_justify="left", box=SIMPLE_HEAD)
    shown.add_column("question")
    for name in ("calls", "tools", *(mode.value for mode in Mode), "vs sync", "vs sync_parallel"):
        shown.add_column(name.replace("_", "_\n"), justify="right", no_wrap=True)
    for one in played:
        slowest = one.recordings[Mode.SYNC]
        shown.add_row(
            one.question.title,
            str(len(one.question.calls)),
            f"{slowest.tool_seconds:.2f}",
            *(_latency(one.recordings[mode]) for mode in Mode),
            _ratio(one, Mode.SYNC),
            _ratio(one, Mode.SYNC_PARALLEL),
        )
    correct = [one for one in played if one.is_correct]
    if len(correct) > 1:
        sums = {mode: sum(one.recordings[mode].seconds for one in correct) for mode in Mode}
        shown.add_section()
        shown.add_row(
            "all" if len(correct) == len(played) else "all that are correct",
            str(sum(len(one.question.calls) for one in correct)),
            f"{sum(one.recordings[Mode.SYNC].tool_seconds for one in correct):.2f}",
            *(f"{sums[mode]:.2f}" for mode in Mode),
            f"{sums[Mode.SYNC] / sums[Mode.ASYNC]:.2f}x",
            f"{sums[Mode.SYNC_PARALLEL] / sums[Mode.ASYNC]:.2f}x",
        )
    return shown


def sentences(played: Sequence[Round], seed: int) -> Iterator[str]:
    """What the table does not say, gains and losses alike."""
    recordings = [recording for one in played for recording in one.recordings.values()]
    good = sum(not recording.mistakes for recording in recordings)
    yield (
        f"{good} of {len(recordings)} answers are correct, checked against what the tools return "
        f"in this run (seed {seed}): codes and numbers that the model's training never drew."
    )
    for recording in recordings:
        if recording.mistakes:
            written = "".join(text for _, text in recording.written).strip()
            yield (
                f"Wrong in {recording.mode} mode: {recording.question.text} The model wrote: "
                f"{written}"
            )
    yield (
        f"A token takes {token_milliseconds(recordings):.1f} ms here. Tools take what they "
        "declare, 0.05 to 0.9 s, with jitter, but for the status of archived orders "
        f"({ARCHIVED}...): {usual_seconds('status', ARCHIVED):.1f} s. The same call takes the same "
        "time in each mode."
    )
    for mode in (Mode.SYNC, Mode.SYNC_PARALLEL):
        slower = [one for one in played if one.is_correct and one.ratio(mode) < 1 - _EQUAL]
        equal = [one for one in played if one.is_correct and abs(one.ratio(mode) - 1) <= _EQUAL]
        if slower:
            yield f"async was slower than {mode} for: {_titles(slower)}."
        if equal:
            yield f"async was no faster than {mode} for: {_titles(equal)}."


def write_recordings(
    path: Path, recordings: Sequence[Recording], origin: Origin, seed: int
) -> None:
    """Write all that was recorded, also of rounds that are not complete."""
    figures = {
        "seed": seed,
        "token_ms": round(token_milliseconds(recordings), 3),
        "runs": [_run(recording) for recording in recordings],
    }
    write_results(path, origin, figures)


def _run(recording: Recording) -> dict[str, object]:
    began = recording.timeline.began_at
    return {
        "title": recording.question.title,
        "question": recording.question.text,
        "mode": recording.mode,
        "latency_s": round(recording.seconds, 4),
        "generation_s": round(recording.generating_seconds, 4),
        "execution_s": round(recording.tool_seconds, 4),
        "tokens": recording.timeline.generated_tokens,
        "traps": len(recording.traps),
        "correct": not recording.mistakes,
        "mistakes": recording.mistakes,
        "answer": recording.timeline.text.strip(),
        "calls": [_call(call, recording, began) for call in recording.timeline.calls],
    }


def _call(call: CallSpan, recording: Recording, began: float) -> dict[str, object]:
    moments = {
        "opened_s": call.opened_at,
        "issued_s": call.issued_at,
        "started_s": call.started_at,
        "finished_s": call.finished_at,
        "injected_s": call.injected_at,
    }
    return {
        "id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "result": recording.results.get(call.id or ""),
        **{name: None if at is None else round(at - began, 4) for name, at in moments.items()},
    }


def _latency(recording: Recording) -> Text:
    return Text("wrong", "red") if recording.mistakes else Text(f"{recording.seconds:.2f}")


def _ratio(one: Round, mode: Mode) -> str:
    compared = (one.recordings[mode], one.recordings[Mode.ASYNC])
    return "" if any(recording.mistakes for recording in compared) else f"{one.ratio(mode):.2f}x"


def _titles(played: Sequence[Round]) -> str:
    return "; ".join(one.question.title for one in played)
