"""An adopted network learns by a function of its owner: the code of docs/adopt.md, and what can go wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.contract.bundle import read_manifest, read_onnx
from models.contract.candidates import list_candidates
from models.contract.gate_report import read_gate_report
from models.contract.index import read_index
from models.contract.learned import learned_by
from models.contract.snapshot import Row, Split
from models.publishing.export import run_onnx, state_dict
from models.refinement.adopted import NewLabels, refine_adopted
from models.refinement.config import RefinementError
from models.training.config import TrainingConfig
from tests.models.refinement.snapshots import png, row_of, write_folder
from tests.models.test_adoption import DEGREES, TILT, adopted, blocks, loader, small_network, tilted
from tests.models.test_cli import invoke

COUNTS: dict[Split, int] = {"train": 30, "calibrate": 40, "judge": 30, "watch": 6}
BRIEF = TrainingConfig(head_views=1, head_epochs=1)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return small_network()


@pytest.fixture(scope="module")
def splits() -> dict[str, Any]:
    sizes = {"head": 120, "calibration": 120, "test": 60}
    return {name: tilted(n, seed) for seed, (name, n) in enumerate(sizes.items())}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tilted digits with their angles, in all splits."""
    images, targets = tilted(sum(COUNTS.values()), seed=9)
    rows: list[Row] = []
    files: list[bytes] = []
    for split, count in COUNTS.items():
        for _ in range(count):
            at = len(rows)
            files.append(png(images[at].numpy()))
            rows.append(row_of(at, files[-1], targets[at].tolist(), split, size=(32, 32)))
    return write_folder(tmp_path_factory.mktemp("snapshots") / "tilt", "tilt", TILT, rows, files)


@pytest.fixture(scope="module")
def first_store(tmp_path_factory: pytest.TempPathFactory, network: nn.Module, splits: dict[str, Any]) -> Path:
    """With version 1. Shared: do not change it."""
    folder = tmp_path_factory.mktemp("adopted") / "bundles"
    adopted(network, splits, folder, config=BRIEF)
    return folder


@pytest.fixture
def store(tmp_path: Path, first_store: Path) -> Path:
    shutil.copytree(first_store, tmp_path / "bundles")
    return tmp_path / "bundles"


@pytest.fixture
def refined(store: Path, splits: dict[str, Any], snapshot: Path) -> Callable[..., Any]:
    """Refines with these changes. The network that is passed in is untrained: the live version's weights count."""

    def call(fine_tune: Any, **changes: Any) -> Any:
        parts = {
            "layers": ["0", "1"],
            "snapshot": snapshot,
            "task": TILT,
            "loss": DEGREES,
            "sample_loss": lambda preds, targets: (preds - targets).abs().squeeze(1),
            "data": {name: loader(data) for name, data in splits.items()},
            "store": store,
            "config": BRIEF,
            "who": "ann",
        }
        return refine_adopted(changes.pop("network", small_network()), fine_tune=fine_tune, **{**parts, **changes})

    return call


def toward(labels: NewLabels, network: nn.Module) -> None:
    """Some steps that learn the labels."""
    images = torch.from_numpy(labels.images).permute(0, 3, 1, 2) / 255
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(30):
        loss = (network(images) - torch.from_numpy(labels.targets)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.slow
def test_the_tutorial_makes_a_candidate_that_the_gates_judge(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, splits: dict[str, Any], snapshot: Path
) -> None:
    monkeypatch.chdir(store.parent)
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "first").symlink_to(snapshot)
    names: dict[str, Any] = {f"{name}_loader": loader(data) for name, data in splits.items()}
    names |= {"network": small_network(), "old_loader": loader(tilted(60, 7)), "nn": nn, "torch": torch, "Path": Path}
    exec(blocks("adopt").partition("folder = adopt(")[0], names)  # noqa: S102 - the tutorial's own code: its imports
    exec(blocks("fine-tune"), names)  # noqa: S102 - as above
    outcome = names["outcome"]
    assert outcome.record.state == "gated"
    assert len(outcome.judged.lines) == len(read_gate_report(outcome.folder).results)
    made = read_manifest(outcome.folder)
    assert (made.model, made.provenance.parent_version) == ("tilt", "1")
    assert learned_by(outcome.folder) == [f"sample-{number:05d}" for number in range(30)]


@pytest.mark.slow
def test_it_starts_from_the_live_weights_and_is_called_for_all_folds_and_the_placebo(
    refined: Callable[..., Any], store: Path, splits: dict[str, Any]
) -> None:
    seen: list[tuple[int, Tensor]] = []

    def fine_tune(network: nn.Module, labels: NewLabels) -> nn.Module:
        assert network.training
        seen.append((len(labels), next(network.parameters()).detach().clone()))
        if len(labels):
            toward(labels, network)
        return network

    outcome = refined(fine_tune)
    live = read_onnx(store / "tilt" / "1", read_manifest(store / "tilt" / "1"))
    weights = next(iter(state_dict(live, "regressor").values()))
    assert [count for count, _ in seen] == [30, 15, 15, 0]
    assert all(torch.equal(first, weights) for _, first in seen)
    images = splits["test"][0].numpy()
    before = run_onnx(live, images)["prediction"]
    after = run_onnx((outcome.folder / "model.onnx").read_bytes(), images)["prediction"]
    assert not np.array_equal(before, after)
    assert read_index(store / "tilt").live == 1


def test_what_a_function_must_not_leave_is_refused_and_the_live_version_stays(
    refined: Callable[..., Any], store: Path
) -> None:
    def ruins(network: nn.Module, _labels: NewLabels) -> None:
        with torch.no_grad():
            next(network.parameters()).fill_(torch.nan)

    with pytest.raises(RefinementError, match=r"not finite, first in 0\.0\.weight: lower its rate"):
        refined(ruins)
    with pytest.raises(RefinementError, match="returned a network of another architecture"):
        refined(lambda _network, _labels: small_network(outputs=2))
    with pytest.raises(RefinementError, match="fine_tune returned int: return the network, or nothing"):
        refined(lambda _network, _labels: 1)
    with pytest.raises(RefinementError, match="has another network than the one of 'tilt' here"):
        refined(lambda _network, _labels: None, network=small_network(outputs=1).append(nn.Linear(1, 1)))
    with pytest.raises(RefinementError, match="give either fine_tune or trainer"):
        refined(None)
    assert read_index(store / "tilt").live == 1
    assert {record.state for record in list_candidates(store / "tilt")} <= {"training", "rejected"}


def test_the_command_line_says_where_an_adopted_network_learns(store: Path, snapshot: Path) -> None:
    run = invoke("refine", "tilt", "--snapshot", str(snapshot), "--store", str(store))
    assert run.exit_code == 1
    assert len(run.stderr.splitlines()) == 1
    assert (
        "only its owner has its data: refine it in Python with models.refinement.adopted.refine_adopted" in run.stderr
    )
