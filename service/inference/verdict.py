"""Score and OOD score -> verdict. Pure: the thresholds come calibrated from the bundle."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.contract.manifest import OperatingPoint


@dataclass(frozen=True, slots=True)
class Verdict:
    lossy: bool
    reasons: tuple[str, ...]  # of "predicted_loss", "ood_score"; empty when not lossy
    operating_point: str


def give_verdict(score: float, ood_score: float, points: Mapping[str, OperatingPoint], name: str) -> Verdict:
    """The verdict at the operating point `name`, one of `points`: lossy when either raw score exceeds its threshold."""
    flags = points[name].flags(score, ood_score)
    reasons = tuple(reason for reason, flagged in flags.items() if flagged)
    return Verdict(lossy=bool(reasons), reasons=reasons, operating_point=name)
