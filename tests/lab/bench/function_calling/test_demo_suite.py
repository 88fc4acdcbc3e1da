from caesura.lab.bench.function_calling.demo import CATEGORIES, demo_suite


def test_every_category_is_there_and_the_seed_decides() -> None:
    suite = demo_suite("demo", 2 * len(CATEGORIES), seed=4)
    assert [case.id.rpartition("-")[0] for case in suite.cases] == [*CATEGORIES, *CATEGORIES]
    assert suite == demo_suite("demo", 2 * len(CATEGORIES), seed=4)
    assert suite != demo_suite("demo", 2 * len(CATEGORIES), seed=5)


def test_a_chained_call_needs_the_result_that_is_its_argument() -> None:
    chains = [case for case in demo_suite("demo", 60, seed=0).cases if case.id.startswith("chain-")]
    assert chains
    for case in chains:
        first, second = case.calls
        assert second.after == (0,)
        assert first.result in second.arguments.values()
        assert case.answer == (f": {second.result}.",)


def test_nothing_is_forced_and_tools_say_how_long_they_take() -> None:
    for case in demo_suite("demo", 30, seed=0).cases:
        assert not case.is_forced
        assert all(call.seconds and call.result for call in case.calls)
        assert all(needed < index for index, call in enumerate(case.calls) for needed in call.after)
