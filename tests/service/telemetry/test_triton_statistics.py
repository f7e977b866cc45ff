from dataclasses import replace

import numpy as np
import pytest

from service.errors import ModelFault
from service.inference.outcome import Forecast, Outcome
from service.inference.verdict import Verdict
from service.telemetry.triton_statistics import TritonStatistics

NUMBERS = np.zeros(2, np.float32)
ANSWERED = Outcome(
    request_id="r",
    sample_id="s",
    model="tiny",
    version="1",
    prediction=np.zeros(2),
    forecast=Forecast(NUMBERS, 0.0, 0.0, 0.0, NUMBERS),
    verdict=Verdict(lossy=False, reasons=(), operating_point="budget"),
    value=0.0,
    ood_value=0.0,
    audited=False,
    station_s={"decode": 0.25, "wait": 0.5, "infer": 1.0, "total": 2.0},
)


def test_images_and_the_batches_they_were_in_are_counted_apart() -> None:
    statistics = TritonStatistics()
    for batch_size in (1, 2, 2):
        statistics.observe(ANSWERED, batch_size)
    read = statistics.read()
    assert (read["inference_count"], read["execution_count"]) == (3, 2)
    assert [(batch["batch_size"], batch["compute_infer"]) for batch in read["batch_stats"]] == [
        (1, {"count": 1, "ns": 1_000_000_000}),
        (2, {"count": 1, "ns": 1_000_000_000}),
    ]
    assert read["inference_stats"]["success"] == {"count": 3, "ns": 6_000_000_000}
    assert read["inference_stats"]["compute_output"] == {"count": 3, "ns": 750_000_000}
    assert read["last_inference"] > 0


def test_a_batch_of_which_not_every_image_was_answered_is_one_run() -> None:
    statistics = TritonStatistics()
    statistics.observe(replace(ANSWERED), 4)
    assert statistics.read()["execution_count"] == 1


def test_an_image_that_ends_in_an_error_counts_as_failed_alone() -> None:
    statistics = TritonStatistics()
    with pytest.raises(ModelFault), statistics.inference():
        raise ModelFault("broken")
    with statistics.inference():
        pass
    read = statistics.read()
    assert read["inference_stats"]["fail"]["count"] == 1
    assert read["inference_count"] == read["inference_stats"]["success"]["count"] == 0
