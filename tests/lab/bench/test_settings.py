import pytest
from pydantic import ValidationError

from caesura.lab.bench.settings import BenchSettings


def test_sizes_are_read_as_people_write_them() -> None:
    settings = BenchSettings.model_validate(
        {"policies": ["stock"], "rates": [1], "kv_memory_bytes": "1.5 GiB"}
    )
    assert settings.kv_memory_bytes == 3 * 2**29
    assert settings.policies == ("stock",)
    assert len(settings.seeds) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policies": []}, "at least 1"),
        ({"policies": ["stock", "stock"]}, "there twice"),
        ({"rates": []}, "at least 1"),
        ({"rates": [0]}, "greater than 0"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"seeds": [1, 1]}, "there twice"),
        ({"sessions": 0}, "greater than 0"),
        ({"scale_tokens": 0}, "greater than 0"),
        ({"kv_memory_bytes": "8G"}, "not a unit"),
        ({"time_limit_seconds": 0}, "greater than 0"),
        ({"polices": ["stock"]}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        BenchSettings.model_validate({"policies": ["stock"], "rates": [1], **changes})


def test_settings_do_not_change() -> None:
    settings = BenchSettings(policies=("stock",), rates=(1.0,))
    with pytest.raises(ValidationError, match="frozen"):
        settings.sessions = 3
