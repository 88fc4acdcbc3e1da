"""What the engine says of its pauses in `/metrics`."""

import json

from caesura.engine.connector import CaesuraConnector
from caesura.engine.metrics import PauseStats, counter_key
from engine.virtual.engine import Shape
from engine.virtual.stage import Stage


def reported(stage: Stage) -> PauseStats:
    stage.scheduler.keeper.gauges.read(idle=True)
    stats = stage.scheduler.metrics.take()
    assert stats is not None
    return stats


def test_a_prediction_is_counted_with_the_duration_that_it_was_about() -> None:
    stage = Stage(Shape(options={"policy": "min-waste"}))
    session = stage.session("session", 60)
    stage.run()
    stage.extend(session, 20)
    stage.run()
    counters = reported(stage).data["counters"]
    (endpoint,) = [labels[0] for name, *labels in map(json.loads, counters) if name == "returns"]
    assert counters[counter_key("returns", endpoint)] == 1
    assert counters[counter_key("predicted_seconds", endpoint)] > 0


def test_policies_that_predict_nothing_count_no_predictions() -> None:
    stage = Stage(Shape(options={"policy": "preserve"}))
    session = stage.session("session", 60)
    stage.run()
    stage.extend(session, 20)
    stage.run()
    counters = reported(stage).data["counters"]
    assert not {"returns", "predicted_seconds"} & {json.loads(key)[0] for key in counters}


def test_it_is_said_when_contexts_are_not_copied_any_more() -> None:
    shape = Shape(connected=True, host_blocks=64, options={"policy": "min-waste"})
    stage = Stage(shape)
    assert reported(stage).data["gauges"]["saves_contexts_now"] == 1
    connector = stage.scheduler.connector
    assert isinstance(connector, CaesuraConnector)
    connector.transfers.seconds_per_block = 1e6
    assert reported(stage).data["gauges"]["saves_contexts_now"] == 0
    alone = Stage(Shape(options={"policy": "min-waste"}))
    assert reported(alone).data["gauges"]["saves_contexts_now"] == 0


def test_a_copied_context_is_not_counted_as_held() -> None:
    shape = Shape(connected=True, host_blocks=64, budget_blocks=16, options={"policy": "swap"})
    stage = Stage(shape)
    stage.session("session", 100)
    stage.run()
    gauges = reported(stage).data["gauges"]
    assert (gauges["pauses_now"], gauges["holding_now"], gauges["copied_now"]) == (1, 0, 1)
    assert gauges["device_tokens"] > gauges["held_tokens_now"] == 0
    assert gauges["host_tokens"] >= gauges["host_tokens_now"] > 0


def test_what_an_engine_has_in_charge_is_all_that_may_still_need_it() -> None:
    stage = Stage(Shape(options={"policy": "preserve", "keep_contexts": "all"}))

    def in_charge() -> int:
        return reported(stage).data["gauges"]["tokens_in_charge"]

    session, waiting = stage.session("session", 60), stage.request("waiting", 40, 4)
    assert in_charge() == 100
    stage.run()
    kept = len(session.transcript.tokens)
    assert waiting.turns == 1
    assert in_charge() == kept + 44, "a parked session, and a client that may come back"
    stage.extend(session, 20)
    assert in_charge() == kept + 20 + 44, "nothing counts twice while it returns"
    stage.run()
    for pause in list(stage.scheduler.keeper.table):
        if not pause.in_place:
            pause.gone_after_seconds = 1.0
    assert in_charge() == len(session.transcript.tokens), "not those who are gone"


def test_a_clients_context_of_which_nothing_is_left_is_in_nobodys_charge() -> None:
    stage = Stage(Shape(options={"policy": "discard", "keep_contexts": "all"}))
    session = stage.session("session", 60)
    stage.request("client", 40, 4)
    stage.run()
    assert len(stage.scheduler.keeper.table) == 2
    in_charge = reported(stage).data["gauges"]["tokens_in_charge"]
    assert in_charge == len(session.transcript.tokens), "it comes back in any case"
