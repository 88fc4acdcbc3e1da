import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.policy.profile import DEFAULT, FIGURES, MEASURED, DeviceProfile, attention_pairs

PROFILE = DeviceProfile(
    name="a device",
    model="a model",
    measured=True,
    seconds_per_iteration=0.01,
    seconds_per_query_token=1e-4,
    seconds_per_context_token=1e-6,
    seconds_per_sequence=1e-5,
    saturation_tokens=100,
    kv_bytes_per_token=1000,
    link_bytes_per_second=1e9,
    link_overlaps=False,
    seconds_per_attention_pair=1e-8,
    defaults=frozenset({"link_bytes_per_second"}),
)


def test_an_iteration_is_the_sum_of_its_terms() -> None:
    assert PROFILE.iteration_seconds(0) == pytest.approx(0.01)
    assert PROFILE.iteration_seconds(10) == pytest.approx(0.011)
    assert PROFILE.iteration_seconds(10, 1000, 5) == pytest.approx(0.01205)
    assert PROFILE.iteration_seconds(10, 1000, 5, 10_000) == pytest.approx(0.01215)


def test_a_copy_takes_its_bytes_over_the_link() -> None:
    assert PROFILE.copy_seconds(2_000) == pytest.approx(2e-3)


@given(queries=st.integers(2, 200), computed=st.integers(0, 200))
def test_attention_pairs_count_the_tokens_before_each_query(queries: int, computed: int) -> None:
    assert attention_pairs(queries, computed) == sum(computed + i for i in range(queries))


def test_what_decoding_reads_is_context_and_not_pairs() -> None:
    assert attention_pairs(1, 1000) == 0


def test_a_profile_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    PROFILE.save(path)
    assert DeviceProfile.load(path) == PROFILE


def test_each_figure_says_where_it_comes_from() -> None:
    figures = json.loads(PROFILE.to_json())["figures"]
    assert set(figures) == set(FIGURES)
    assert figures["link_bytes_per_second"] == {"value": 1e9, "source": DEFAULT}
    assert figures["seconds_per_iteration"] == {"value": 0.01, "source": MEASURED}


def test_nothing_is_measured_in_a_profile_that_is_not() -> None:
    computed = replace(PROFILE, measured=False, defaults=frozenset())
    assert {computed.source(figure) for figure in FIGURES} == {DEFAULT}
    assert DeviceProfile.from_json(computed.to_json()) == computed


def test_further_keys_beside_the_profile_are_left_alone() -> None:
    document = json.loads(PROFILE.to_json()) | {"calibration": {"command": "..."}}
    assert DeviceProfile.from_json(json.dumps(document)) == PROFILE


def test_the_attention_term_may_be_missing() -> None:
    document = json.loads(PROFILE.to_json())
    del document["figures"]["seconds_per_attention_pair"]
    assert DeviceProfile.from_json(json.dumps(document)).seconds_per_attention_pair == 0


def document_with(**changes: object) -> str:
    return json.dumps(json.loads(PROFILE.to_json()) | changes)


def figures_with(**changes: object) -> str:
    figures = json.loads(PROFILE.to_json())["figures"]
    return document_with(figures=figures | changes)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "schema"),
        ('{"a": 1}', "calibrate --json"),
        (document_with(version=2), "version 2"),
        (document_with(name=3), '"name"'),
        (document_with(link_overlaps="yes"), '"link_overlaps"'),
        (document_with(figures=None), '"figures" is missing'),
        (document_with(figures={}), "missing figures: kv_bytes_per_token"),
        (figures_with(speed={"value": 1, "source": MEASURED}), "unknown figures: speed"),
        (figures_with(saturation_tokens=5), "saturation_tokens must have"),
        (
            figures_with(saturation_tokens={"value": 5, "source": "guessed"}),
            "saturation_tokens must have",
        ),
        (
            figures_with(seconds_per_iteration={"value": -1, "source": MEASURED}),
            "seconds_per_iteration of a device profile must be at least 0",
        ),
        (
            figures_with(seconds_per_query_token={"value": 0, "source": MEASURED}),
            "seconds_per_query_token of a device profile must be more than 0",
        ),
        (
            figures_with(saturation_tokens={"value": "many", "source": MEASURED}),
            "must be a number",
        ),
        (
            figures_with(kv_bytes_per_token={"value": 1.5, "source": MEASURED}),
            "must be whole",
        ),
        (
            figures_with(link_bytes_per_second={"value": float("nan"), "source": MEASURED}),
            "must be more than 0",
        ),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint) as caught:
        DeviceProfile.load(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json"):
        DeviceProfile.load(tmp_path / "none.json")


def test_an_unknown_name_among_the_defaults_is_refused() -> None:
    with pytest.raises(ValueError, match="not figures of a device profile: speed"):
        replace(PROFILE, defaults=frozenset({"speed"}))
