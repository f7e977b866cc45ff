"""What `GET /v1/drift` says: whether the world left the reference, what moved, since when, and what to do.

Made by `service.drift.monitor` at every flush, kept in Redis, read by every replica; the client and the metrics
read it too. Shares are of the window's observations; evidence is the log10 of a test martingale, the largest since it
began anew at 0:00 UTC.
"""

from typing import Annotated, Literal

from pydantic import Field

from service.schemas.predictions import Wire

DriftState = Literal["insufficient_data", "stable", "warning", "drift"]
Share = Annotated[float, Field(ge=0, le=1)]
UnixTime = Annotated[float, Field(description="Unix time, seconds, by the queue's clock.")]


class SignalReport(Wire):
    name: str = Field(description="score, ood_score, luminance, contrast, sharpness, aspect or size.")
    evidence: float = Field(description="log10 of the signal's test martingale: 2 is 100 to 1 against no change.")
    shift: float = Field(
        ge=-0.5,
        le=0.5,
        description="Mean rank in the reference, minus 1/2: above 0 values went up. Of the window, or of the time "
        "since the change where that is shorter.",
    )
    since: UnixTime | None = Field(description="The likeliest start of the change, when this signal is named.")
    is_named: bool = Field(description="Whether its own evidence is past the threshold, corrected for all signals.")
    design_effect: float = Field(
        ge=1, description="How many observations count as one, because they come in runs that are alike."
    )
    edges: list[float] = Field(description="Between the bins: values of the reference.")
    reference: list[Share] = Field(description="Share of the reference in each bin.")
    window: list[Share] = Field(description="Share of the window in each bin; all 0 when it is empty.")
    psi: float = Field(description="Population stability index of the window; shown, decides nothing.")
    psi_null: float = Field(description="What it is on average when nothing changed, at this many observations.")
    ks: Share = Field(description="Kolmogorov-Smirnov distance of window and reference; shown, decides nothing.")


class LossEstimate(Wire):
    """Mean loss of the window's images, or of those since the change where that is shorter."""

    value: float
    low: float
    high: float
    reference: float = Field(description="Mean predicted loss of the reference.")
    unit: str
    assumes_head: bool = Field(description="No audit labels correct it: it is what the loss head believes.")
    audit_labels: int = Field(ge=0, description="Audit labels of images since the change, or of 48 h; 50 correct it.")


class OodRate(Wire):
    """Share of the same images whose OOD score is above the reference's 95 % point."""

    rate: Share
    low: Share
    high: Share
    reference: Share = Field(description="What the reference promises.")


class DriftReport(Wire):
    model: str
    version: str = Field(description="The live version: each one has a reference and evidence of its own.")
    state: DriftState
    reason: str = Field(description="Why it is in this state, in one sentence.")
    evidence: float = Field(description="log10 of the average of the signals' martingales.")
    threshold: float = Field(description="log10 from which the evidence counts.")
    since: UnixTime | None = Field(description="The likeliest start of the change, when the evidence counts.")
    observations: int = Field(ge=0, description="In the window, counted for evidence.")
    thinned: int = Field(ge=0, description="In the window, not counted: further images of one source within seconds.")
    not_finite: int = Field(ge=0, description="In the window, left out: an embedding or signal that is no number.")
    window_s: float = Field(gt=0)
    loss: LossEstimate | None = Field(description="null: the bundle or the traffic has too little for one.")
    ood: OodRate | None = Field(description="null: too few images.")
    embedding_shift: float | None = Field(
        description="Length of the embedding's mean, less what it has by chance, in standard deviations of the "
        "reference; null: none in the bundle."
    )
    moved: list[str] = Field(description="The signals that are named, the strongest evidence first.")
    summary: str = Field(description="What moved, since when and by how much, in plain words.")
    advice: str = Field(description="What to do.")
    signals: list[SignalReport]
    not_watched: list[str] = Field(description="Signals for which the bundle has no reference.")
    updated_at: UnixTime
    age_s: float = Field(default=0.0, ge=0, description="When it was asked for, by how much it was behind.")
