import pytest

from caesura.lab.bench.arm_engines import ArmEngines
from caesura.lab.bench.arms import INFINITE, STOCK_ARMS, Arm, Variant, arm, simulated_names
from caesura.lab.bench.settings import BenchSettings


def test_names_of_policies_are_arms_of_caesura_and_the_others_are_special() -> None:
    assert arm("min-waste") == Arm("min-waste", "min-waste")
    assert [one.name for one in STOCK_ARMS if not one.is_stock] == []
    assert arm("infinite") is INFINITE
    assert not INFINITE.is_stock
    assert arm("stock-no-cache").variant is Variant.NO_PREFIX_CACHE
    with pytest.raises(ValueError, match="unknown policy 'hope'"):
        arm("hope")


def test_arms_that_live_from_host_memory_say_so() -> None:
    assert [name for name in simulated_names() if arm(name).needs_host_memory] == [
        "stock-host",
        "swap",
    ]


@pytest.mark.parametrize("name", ["stock-host", "infinite"])
def test_no_engine_is_started_for_what_can_only_be_simulated(name: str) -> None:
    settings = BenchSettings(policies=("stock", name), rates=(1.0,))
    with pytest.raises(ValueError, match=f"{name} can only be simulated"):
        ArmEngines(settings)
