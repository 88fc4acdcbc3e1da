"""`make mutants` makes lines wrong that are there."""

from pathlib import Path

import pytest

import caesura
from mutants.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutated_line_is_there_once(mutation: Mutation) -> None:
    text = (Path(caesura.__file__).parent / mutation.file).read_text()
    assert text.count(mutation.before) == 1
    assert mutation.after != mutation.before
