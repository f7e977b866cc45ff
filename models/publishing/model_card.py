"""The model card: the contents of a bundle, the data it was made from, its quality, and its limits."""

import math

from models.contract.manifest import Manifest, OperatingPoint


def model_card(manifest: Manifest, data: str, network: str) -> str:
    """Markdown. data: the task's own paragraph on its data; network: one sentence that describes the network."""
    made = manifest.provenance
    return f"""# {manifest.model}, version {manifest.version}

Predicts {_target(manifest)} and forecasts, for every image, the loss it is about to make: {manifest.loss.name}, in
{manifest.loss.unit}. A true loss above {manifest.loss.failure_level:g} {manifest.loss.unit} counts as a failure.

{network}

## Data

{data}

Source images: {", ".join(f"{size} {split}" for split, size in made.split_sizes.items())}. {_trunk_data(manifest)};
{_head_data(manifest)}; the head split also fixes the reference of the OOD
score; the calibration split sets the predicted loss, the thresholds and the drift reference; the test split only
measures. Data fingerprint: `{made.data_fingerprint}`.

## Verdicts

{_points(manifest)}

## Drift

{_drift(manifest)}

## Figures on the test split

Measured on `model.onnx` itself{_again(manifest)}.

| figure | value |
|---|---|
{_figures(manifest)}

## Limits

- Figures and guarantees hold for images like those above. Elsewhere predicted losses may rank images wrongly, even
  below chance; the OOD score is there to notice such images.
- Guarantees are on average over images; they promise nothing about one image, nor about a chosen group of images.
- The predicted loss is an expectation. A low one is no proof that a prediction is right.

## Making

Made by {_maker(manifest)} ({made.code_version}), seed {made.seed}, {made.date}; parent version:
{made.parent_version or "none"}. {_licence(manifest)} For further training `models.publishing.export.state_dict`
reads the weights back from `model.onnx`.
"""


def _target(manifest: Manifest) -> str:
    task = manifest.task
    unit = "point" if task.kind == "keypoints" else "value"
    return f"{len(task.names)} {unit}{'s' if len(task.names) > 1 else ''} ({', '.join(task.names)})"


def _adopted(manifest: Manifest) -> bool:
    """Whether the network was trained elsewhere."""
    return manifest.provenance.split_sizes.get("trunk") == 0


def _trunk_data(manifest: Manifest) -> str:
    return "The regressor was trained elsewhere" if _adopted(manifest) else "The trunk split trains the regressor"


def _maker(manifest: Manifest) -> str:
    made = manifest.provenance
    if made.snapshot is not None:
        return f"`losscast refine {manifest.model}` from the labels of snapshot {made.snapshot[:16]}"
    return "`models.adoption.adopt`" if _adopted(manifest) else f"`losscast train {made.task}`"


def _again(manifest: Manifest) -> str:
    """The command knows only the tasks of this package."""
    return "" if _adopted(manifest) else "; `losscast evaluate` prints them again and explains each one"


def _licence(manifest: Manifest) -> str:
    if _adopted(manifest):
        return "The regressor is its owner's, on the owner's terms."
    return "Code and weights under Apache-2.0."


def _head_data(manifest: Manifest) -> str:
    """The splits that train the loss head: see `learn_keypoint_losses` for heads that score keypoints."""
    if manifest.keypoint_loss:
        return "both it and the head split, with mirror images, train the loss head"
    return "the head split trains the loss head"


def _points(manifest: Manifest) -> str:
    held = (f"- **{name}**: {point.guarantee}{_scatter(point)}" for name, point in manifest.operating_points.items())
    refused = (f"- *{name}* is not offered: {why}." for name, why in manifest.refused_operating_points.items())
    return "\n".join((*held, *refused))


def _drift(manifest: Manifest) -> str:
    """The references that a service can compare its traffic with."""
    size = manifest.drift_reference["score"].size
    declared = manifest.loss.definition is not None
    return (
        f"Watched against the first views of {size} calibration images: {', '.join(manifest.drift_reference)}"
        f"{_embeddings(manifest)}.\n"
        f"Their predicted losses are the reference of the estimated loss; labels of the audit lane "
        f"{'correct it' if declared else 'do not correct it, as the loss is not declared'}."
    )


def _embeddings(manifest: Manifest) -> str:
    reference = manifest.embedding_reference
    return "" if reference is None else f", and the mean of the embedding in {len(reference.offset)} directions"


def _scatter(point: OperatingPoint) -> str:
    """A bound on the standard deviation, over calibration sets, of the share that a threshold flags (a Beta law)."""
    if point.kind != "flag_budget":
        return ""
    scatter = math.sqrt(point.level * (1 - point.level) / point.calibration_size)
    return (
        f" From one set of {point.calibration_size} calibration images to another, the\n"
        f"  share flagged scatters around its mean by at most about {100 * scatter:.1f} points in a hundred."
    )


def _figures(manifest: Manifest) -> str:
    return "\n".join(f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in manifest.evaluation.items())
