"""The committed model plays a few sessions, as it is shipped."""

import torch

from caesura.bundled import CML_MODEL
from caesura.lab.train.demo_suite import DemoSuite
from caesura.lab.train.evaluate import Evaluation

MODEL = CML_MODEL
CASES = 5


def test_it_fits_the_repository() -> None:
    assert (MODEL / "model.safetensors").stat().st_size < 20 * 2**20


def test_it_succeeds_in_13_of_15_held_out_sessions_of_each_category() -> None:
    torch.set_num_threads(1)
    scores = Evaluation(DemoSuite(MODEL), CASES, seed=41).run(sides=(True,))
    successes: dict[str, int] = {}
    for score in scores:
        successes[score.category] = successes.get(score.category, 0) + score.successes
    assert min(successes.values()) >= 13, successes
