"""The reply of `GET /v1/drift`: whether traffic left the reference, which signals moved, since when, and what to do.

`service.drift.monitor` makes it at every flush and keeps it in Redis. All replicas, the client and the metrics read it.
Shares are of the window's observations. Evidence is the log10 of a test martingale: the largest since the restart at
0:00 UTC.
"""

from typing import Annotated, Literal

from pydantic import Field

from service.schemas.predictions import Wire

DriftState = Literal["insufficient_data", "stable", "warning", "drift"]
Share = Annotated[float, Field(ge=0, le=1)]
UnixTime = Annotated[float, Field(description="Unix time in seconds, by the clock of the queue's server.")]


class SignalReport(Wire):
    name: str = Field(description="score, ood_score, luminance, contrast, sharpness, aspect or size.")
    evidence: float = Field(
        description="log10 of the signal's test martingale: 2 means odds of 100 to 1 against no change."
    )
    shift: float = Field(
        ge=-0.5,
        le=0.5,
        description="Mean rank in the reference, minus 1/2; above 0 the values went up. It is of the window, or of the "
        "time since the change if that is shorter.",
    )
    since: UnixTime | None = Field(description="The likeliest start of the change, if this signal is named.")
    is_named: bool = Field(
        description="Whether the signal's own evidence passes the threshold, corrected for the number of signals."
    )
    design_effect: float = Field(
        ge=1, description="How many observations count as one, because consecutive images depend on each other."
    )
    edges: list[float] = Field(description="Values of the reference that separate the bins.")
    reference: list[Share] = Field(description="Share of the reference in each bin.")
    window: list[Share] = Field(description="Share of the window in each bin; all 0 if the window is empty.")
    psi: float = Field(description="Population stability index of the window. It decides nothing.")
    psi_null: float = Field(description="Its average without a change, for this number of observations.")
    ks: Share = Field(description="Kolmogorov-Smirnov distance of window and reference. It decides nothing.")


class LossEstimate(Wire):
    """Mean loss of the images in the window, or since the change if that is shorter."""

    value: float
    low: float
    high: float
    reference: float = Field(description="Mean predicted loss of the reference.")
    unit: str
    assumes_head: bool = Field(description="true: no audit labels correct it, so it rests on the loss head alone.")
    audit_labels: int = Field(
        ge=0, description="Audit labels of images since the change, else of 48 h. From 50 on they correct the estimate."
    )


class OodRate(Wire):
    """Share of the same images whose OOD score is above the reference's 95 % point."""

    rate: Share
    low: Share
    high: Share
    reference: Share = Field(description="The same share in the reference.")


class DriftReport(Wire):
    model: str
    version: str = Field(description="The live version. Each version has its own reference and evidence.")
    state: DriftState
    reason: str = Field(description="The reason for this state, in one sentence.")
    evidence: float = Field(description="log10 of the average of the signals' martingales.")
    threshold: float = Field(description="log10 from which evidence counts.")
    since: UnixTime | None = Field(description="The likeliest start of the change, if the evidence counts.")
    observations: int = Field(ge=0, description="Images in the window that count for the evidence.")
    thinned: int = Field(
        ge=0, description="Images in the window that do not count: further ones of the same source within seconds."
    )
    not_finite: int = Field(
        ge=0, description="Images in the window with an embedding that is no finite number; it is left out."
    )
    window_s: float = Field(gt=0)
    loss: LossEstimate | None = Field(
        description="null: there are too few images, or the bundle has no loss reference."
    )
    ood: OodRate | None = Field(description="null: there are too few images.")
    embedding_shift: float | None = Field(
        description="Length of the mean embedding in standard deviations of the reference, minus its expectation by "
        "chance; null: the bundle has no embedding reference, or there are no images."
    )
    moved: list[str] = Field(description="The named signals, strongest evidence first.")
    summary: str = Field(description="The signals that moved, since when and by how much, in plain words.")
    advice: str = Field(description="What to do.")
    signals: list[SignalReport]
    not_watched: list[str] = Field(description="Signals for which the bundle has no reference.")
    updated_at: UnixTime
    age_s: float = Field(default=0.0, ge=0, description="Age of the report when it was asked for.")
