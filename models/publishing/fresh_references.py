"""Gives a version that exists its references again, without training: the same ONNX, thresholds and figures.

A bundle of before there was drift to watch, or one whose references are defined anew, becomes the next version of a
store. No torch.
"""

import re
from collections.abc import Callable
from pathlib import Path

from models.calibration.references import CALIBRATION_SEED, references
from models.contract import bundle
from models.contract.index import check_store, make_live, read_index
from models.contract.manifest import Manifest
from models.evaluation.bundle import run_bundle
from models.publishing.model_card import model_card
from models.tasks.protocol import RegressionTask, check_definition

_NETWORK = re.compile(r"counts as a failure\.\n\n(.+?)\n\n## Data\n", re.DOTALL)


def renew_references(
    folder: Path, task: RegressionTask, store: Path, progress: Callable[[str, int, int], None]
) -> Path:
    """Publishes the version in `folder` as the next one of `store`, with references of the task's calibration split.

    It is made live where the store has no such model yet, or serves the same ONNX. progress: told what is being done,
    steps done, and steps in all. Raises BundleError for a bundle that is damaged or was made from other data than the
    task's, and for a store that cannot take it.
    """
    old = bundle.read_manifest(folder)
    onnx = bundle.read_onnx(folder, old)
    if old.provenance.data_fingerprint != task.fingerprint:
        raise bundle.BundleError(
            f"{folder} was made from other data than these: fingerprint {old.provenance.data_fingerprint}, not "
            f"{task.fingerprint}; give the data that it was made from, or train it again"
        )
    check_definition(task, task.examples("calibration"))
    check_store(store, old.model)
    progress("references", 1, 3)
    examples = task.examples("calibration", 1, CALIBRATION_SEED)
    outputs = run_bundle(folder, task, examples)[1]
    progress("references", 2, 3)
    new = references(outputs, examples.images, examples.sizes).put_into(_next(old, task, store))
    card = model_card(new, task.card, _network(folder))
    published = bundle.publish(store, new, {"model.onnx": onnx, "model_card.md": card.encode()})
    if _may_serve(published.parent, new):
        make_live(published)
    progress("references", 3, 3)
    return published


def _next(old: Manifest, task: RegressionTask, store: Path) -> Manifest:
    """Under its new number. A copy under the same number, for another store, keeps its parent: none is its own."""
    version = str(bundle.next_version(store / old.model))
    parent = old.provenance.parent_version if version == old.version else old.version
    return old.model_copy(
        update={
            "version": version,
            "loss": old.loss.model_copy(update={"definition": task.loss.definition}),
            "provenance": old.provenance.model_copy(update={"parent_version": parent}),
        }
    )


def _network(folder: Path) -> str:
    """The sentence on what was trained, which only the model card has."""
    try:
        found = _NETWORK.search((folder / "model_card.md").read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise bundle.BundleError(f"{folder} is damaged: model_card.md cannot be read") from error
    if found is None:
        raise bundle.BundleError(f"{folder} has a model_card.md that was not written with the bundle: restore it")
    return found.group(1)


def _may_serve(model_folder: Path, new: Manifest) -> bool:
    if not (model_folder / "model.json").exists():
        return True
    live = read_index(model_folder).live
    return bundle.read_manifest(model_folder / str(live)).onnx_sha256 == new.onnx_sha256
