"""A drift report in plain words: the signals that moved, since when and by how much, and what to do. Pure."""

from datetime import UTC, datetime
from typing import Final

from service.schemas.drift import DriftReport, SignalReport

UP_AND_DOWN: Final = {
    "score": ("the model expects larger errors", "the model expects smaller errors"),
    "ood_score": ("images lie further from what the model knows", "images lie closer to what the model knows"),
    "luminance": ("images are brighter", "images are darker"),
    "contrast": ("contrast is higher", "contrast is lower"),
    "sharpness": ("images are sharper or noisier", "images are blurred"),
    "aspect": ("images are wider", "images are taller"),
    "size": ("images are larger", "images are smaller"),
}
CHECKS: Final = {
    "luminance": "exposure and lighting of the cameras",
    "contrast": "lighting, haze and the settings of the cameras",
    "sharpness": "focus, dirt on the lens, motion blur and compression",
    "aspect": "whether a source sends other formats or crops",
    "size": "whether a source sends other resolutions",
}
SMALL: Final = 0.02  # a smaller shift of the mean rank is a change of spread, not of level


def summary(report: DriftReport) -> str:
    if report.state == "insufficient_data":
        return f"{report.observations} images in the last {_span(report.window_s)}: too few to tell yet."
    if report.state == "stable":
        return f"No change is visible in {report.observations} images of the last {_span(report.window_s)}."
    named = [signal for name in report.moved for signal in report.signals if signal.name == name]
    parts = [_moved(signal) for signal in named]
    text = "; ".join(parts) if parts else "All signals together left the reference, but no single one did"
    since = f" Since about {_time(report.since)}." if report.since is not None else ""
    return f"{text[0].upper()}{text[1:]}.{since}{_loss(report)}{_ood(report)}"


def advice(report: DriftReport) -> str:
    match report.state:
        case "insufficient_data":
            return (
                "Nothing yet. The monitor must first learn how much consecutive images depend on each other. "
                "It needs two blocks of 512 images, each on one replica since its start."
            )
        case "stable":
            return "Nothing."
        case _:
            return " ".join(_steps(report))


def _steps(report: DriftReport) -> list[str]:
    steps = ["Look at samples since then: `losscast queue lease`."]
    if checks := [CHECKS[name] for name in report.moved if name in CHECKS]:
        steps.append(f"Check {'; '.join(checks)}.")
    if report.loss is None or report.loss.assumes_head:
        steps.append("Label the audit lane: until then the estimated loss rests on the loss head alone.")
    if report.state == "drift":
        steps.append("If the new images will stay, label the most valuable ones and train the next version.")
    elif report.moved == ["score"] or not report.moved:
        steps.append("If the change is intended, calibrate on present images: they become the reference.")
    return steps


def _moved(signal: SignalReport) -> str:
    if abs(signal.shift) < SMALL:
        return f"the spread of {signal.name} differs from the reference"
    up, down = UP_AND_DOWN[signal.name]
    rank = 100 * (signal.shift + 0.5)
    return (
        f"{up if signal.shift > 0 else down} ({signal.name}: on average at {rank:.0f} % of the reference, not at 50 %)"
    )


def _loss(report: DriftReport) -> str:
    loss = report.loss
    if loss is None or loss.reference <= 0:
        return ""
    change = loss.value / loss.reference - 1
    basis = (
        "estimated by the loss head alone" if loss.assumes_head else f"corrected by {loss.audit_labels} audit labels"
    )
    return f" Mean loss {loss.value:.3g} {loss.unit}, {change:+.0%} against the reference, {basis}."


def _ood(report: DriftReport) -> str:
    if report.ood is None:
        return ""
    extreme = f"an OOD score above that of {1 - report.ood.reference:.0%} of the reference"
    return f" {report.ood.rate:.0%} of the images have {extreme}."


def _span(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"  # noqa: PLR2004 - an hour


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
