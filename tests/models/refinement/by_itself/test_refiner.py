"""The refiner on a real service and store. Only the training is played, by a process that makes a candidate."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import stamina
from prometheus_client import generate_latest

from models.contract.candidates import list_candidates
from models.contract.index import read_index
from models.refinement.by_itself.metrics import RefinerMetrics
from models.refinement.by_itself.refiner import Refiner
from models.refinement.config import RefinementError
from tests.running import Service

Label = Callable[[int], None]
Make = Callable[..., Refiner]


def value(metrics: RefinerMetrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(f"losscast_refiner_{name}", {"model": "tiny", **labels})
    assert found is not None, generate_latest(metrics.registry).decode()
    return found


@contextmanager
def running(refiner: Refiner) -> Iterator[None]:
    thread = threading.Thread(target=refiner.run)
    thread.start()
    try:
        yield
    finally:
        refiner.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_new_labels_start_a_refinement_and_the_same_labels_no_second_one(
    refiner: Make, label: Label, store: Path
) -> None:
    metrics = RefinerMetrics("tiny", 3)
    made = refiner("refused", metrics=metrics)
    assert made.step() is None
    label(3)
    assert made.step() == "refused"
    assert made.step() is None
    assert refiner("refused").step() is None  # after a restart
    label(2)
    assert made.step() is None
    assert value(metrics, "new_labels") == 2
    label(1)
    assert made.step() == "refused"
    assert len(list_candidates(store / "tiny")) == 2
    assert value(metrics, "runs_total", result="refused") == 2
    assert read_index(store / "tiny").live == 1


def test_a_candidate_that_passed_waits_and_says_so_unless_the_refiner_was_told_to_promote(
    refiner: Make, label: Label, store: Path
) -> None:
    metrics = RefinerMetrics("tiny", 3)
    label(3)
    assert refiner("passed", metrics=metrics).step() == "passed"
    assert value(metrics, "candidate_waiting_since_timestamp_seconds") > 1e9
    assert read_index(store / "tiny").live == 1
    assert refiner("passed", promotes=True, metrics=metrics).step() is None  # the one that waits goes live
    assert read_index(store / "tiny").live == 2
    assert value(metrics, "candidate_waiting_since_timestamp_seconds") == 0
    assert [record.state for record in list_candidates(store / "tiny")] == ["live"]


def test_a_candidate_that_the_service_refuses_is_asked_for_once_and_stops_nothing(
    refiner: Make, label: Label, store: Path
) -> None:
    metrics = RefinerMetrics("tiny", 3)
    made = refiner("passed", promotes=True, metrics=metrics)
    label(3)
    with damaged_files(store):
        assert made.step() == "passed"
    assert value(metrics, "errors_total") == 1
    assert value(metrics, "candidate_waiting_since_timestamp_seconds") > 1e9
    label(3)
    assert made.step() == "passed"  # a newer one, which the service takes
    assert value(metrics, "errors_total") == 1
    assert read_index(store / "tiny").live > 1


@contextmanager
def damaged_files(store: Path) -> Iterator[None]:
    """The live version's bytes, from which the next candidate is made, are damaged for a while."""
    onnx = store / "tiny" / "1" / "model.onnx"
    whole = onnx.read_bytes()
    onnx.write_bytes(whole[:-1])
    try:
        yield
    finally:
        onnx.write_bytes(whole)


def test_a_candidate_of_somebody_else_is_not_promoted(refiner: Make, store: Path) -> None:
    from tests.models.refinement.by_itself.quick_refinement import main  # noqa: PLC0415 - a script

    main(store / "tiny", "passed", "ada")
    assert refiner("refused", promotes=True).step() is None
    assert read_index(store / "tiny").live == 1


def test_a_refinement_that_fails_is_tried_again_after_growing_pauses(refiner: Make, label: Label) -> None:
    metrics = RefinerMetrics("tiny", 3)
    made = refiner("failed", metrics=metrics)
    label(3)
    pauses = []
    for _ in range(3):
        assert made.step() == "failed"
        pauses.append(made._pause_s)
    assert pauses == [60, 120, 240]
    assert value(metrics, "runs_total", result="failed") == 3
    assert value(metrics, "new_labels") == 3


def test_while_another_host_refines_the_labels_stay_new(refiner: Make, label: Label) -> None:
    metrics = RefinerMetrics("tiny", 3)
    label(3)
    assert refiner("busy", metrics=metrics).step() == "busy"
    assert value(metrics, "new_labels") == 3
    assert refiner("refused").step() == "refused"


def test_a_service_that_is_away_is_counted_and_asked_again(refiner: Make, label: Label, service: Service) -> None:
    metrics = RefinerMetrics("tiny", 3)
    made = refiner("refused", metrics=metrics)
    label(3)
    service.stop()
    with pytest.raises(RefinementError, match="does not answer"):
        made.step()
    with running(made):
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.1):
            with attempt:
                assert value(metrics, "errors_total") >= 2


def test_a_refiner_that_is_stopped_ends_its_refinement_and_forgets_nothing(
    refiner: Make, label: Label, store: Path
) -> None:
    metrics = RefinerMetrics("tiny", 3)
    label(3)
    with running(refiner("endless", metrics=metrics)):
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.1):
            with attempt:
                assert list_candidates(store / "tiny")
        assert value(metrics, "running") == 1
    assert value(metrics, "running") == 0
    assert sum(value(metrics, "runs_total", result=result) for result in ("passed", "refused", "failed", "busy")) == 0
    assert refiner("refused").step() == "refused"  # the labels are still new
