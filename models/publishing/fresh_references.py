"""Computes the references of an existing version again, without training and without torch.

ONNX, thresholds and figures stay the same. The result is the next version in a store. This is needed when the
definition of the references changes.
"""

import re
from collections.abc import Callable
from pathlib import Path

from models.calibration.references import CALIBRATION_SEED, references
from models.contract import bundle
from models.contract.index import check_store, read_index
from models.contract.live import make_live
from models.contract.manifest import Manifest
from models.evaluation.bundle import run_bundle
from models.publishing.model_card import model_card
from models.tasks.protocol import RegressionTask, check_definition

_NETWORK = re.compile(r"counts as a failure\.\n\n(.+?)\n\n## Data\n", re.DOTALL)


def renew_references(
    folder: Path, task: RegressionTask, store: Path, progress: Callable[[str, int, int], None]
) -> Path:
    """Publishes the version in `folder` again as the next one in `store`, with new references of the calibration split.

    It goes live if the store has no such model yet, or serves the same ONNX. progress: called with the name of the
    work, steps done, and steps in all. Raises BundleError for a damaged bundle, for a bundle that was made from other
    data than the task's, and for a store that cannot take it.
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
        make_live(published, reason="new drift references for the same ONNX")
    progress("references", 3, 3)
    return published


def _next(old: Manifest, task: RegressionTask, store: Path) -> Manifest:
    """The manifest with its new number. A copy with the same number, in another store, keeps its parent version."""
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
    """The description of the network, which only the model card contains."""
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
