"""Score and OOD score -> verdict. Pure: the thresholds come calibrated from the bundle."""

from collections.abc import Mapping

from models.contract.manifest import OperatingPoint
from service.inference.outcome import Forecast, Verdict


def judge(forecast: Forecast, points: Mapping[str, OperatingPoint], name: str) -> Verdict:
    """The verdict at the operating point `name`: lossy when either raw score exceeds its threshold."""
    flags = points[name].flags(forecast.score, forecast.ood_score)
    reasons = tuple(reason for reason, flagged in flags.items() if flagged)
    return Verdict(lossy=bool(reasons), reasons=reasons, operating_point=name)
