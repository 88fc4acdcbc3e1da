"""Spellings that were right once still work, and say what they are called now."""

import pytest

from caesura.cli.spellings import modern
from caesura.errors import ConfigurationError


@pytest.mark.parametrize(
    ("typed", "meant", "now"),
    [
        ("bench --async", "bench calls", "caesura bench calls"),
        ("bench --seed 3 --async --cases 5", "bench calls --seed 3 --cases 5", "bench calls"),
        (
            "calibrate --from-trace t.json --base p.json",
            "calibrate trace t.json --base p.json",
            "caesura calibrate trace ...",
        ),
        (
            "calibrate --base p.json --from-trace=t.json --json out.json",
            "calibrate trace t.json --base p.json --json out.json",
            "caesura calibrate trace ...",
        ),
        (
            "train --evaluate out/agent --cases 10",
            "train evaluate out/agent --cases 10",
            "caesura train evaluate ...",
        ),
    ],
)
def test_a_mode_that_was_an_option_is_a_command(typed: str, meant: str, now: str) -> None:
    line = modern(typed.split())
    assert list(line.words) == meant.split()
    (note,) = line.notes
    assert now in note


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "bench --policies stock",
        "bench calls --modes async",
        "train demo --out evaluate",
        "train --evaluate-steps 5 base",
        "serve model --async",
        "chat --message --async",
    ],
)
def test_other_command_lines_stay_as_they_are(typed: str) -> None:
    line = modern(typed.split())
    assert list(line.words) == typed.split()
    assert not line.notes


@pytest.mark.parametrize("pair", ["--policy-option ttl_seconds=5", "--policy-option=ttl_seconds=5"])
def test_numbers_of_policies_are_given_by_name(pair: str) -> None:
    line = modern(["bench", *pair.split(), "--policy-option", "a = 1"])
    assert line.words == ("bench", "--policy-option.ttl_seconds=5", "--policy-option.a=1")
    assert not line.notes


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("calibrate --from-trace", "--from-trace needs a value"),
        ("bench --policy-option ttl", "is not of the form NAME=NUMBER"),
        ("bench --policy-option", "is not of the form NAME=NUMBER"),
    ],
)
def test_a_value_that_is_missing_is_said(typed: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        modern(typed.split())
