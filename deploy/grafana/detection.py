"""The dashboard of failure detection: predicted loss, verdicts, drift and its evidence.

Drift is detected over all replicas together, and each of them reports the same: take max, not sum.
"""

from typing import Any

from deploy.grafana.panels import (
    GREEN,
    RED,
    YELLOW,
    Query,
    Row,
    board,
    cells,
    dashed,
    lines,
    number,
    states,
    with_band,
)

STATES = {0: "insufficient_data", 1: "stable", 2: "warning", 3: "drift"}
COLORS = {0: "#808080", 1: GREEN, 2: YELLOW, 3: RED}
STATE = " or ".join(f'losscast_drift_state{{MODEL, state="{name}"}} * {value}' for value, name in STATES.items())
IMAGES = "sum(rate(losscast_verdicts_total{MODEL}[RATE]))"

DRIFT = Row(
    "Drift",
    [
        states(
            "State",
            "drift: the evidence is above its threshold, and the effect is large enough to matter. warning: evidence "
            "without such an effect. `losscast drift` shows which signals moved, since when, and what to do.",
            {value: (name, COLORS[value]) for value, name in STATES.items()},
            Query(f"max by (model) ({STATE})", "{{model}}"),
        ),
        dashed(
            lines(
                "Evidence",
                "log10 of the test martingale over all signals: 2 means odds of 100 to 1 for a change. It restarts "
                "every day at 0:00 UTC. The panel cuts it off at 10.",
                "short",
                Query('max by (model) (losscast_drift_evidence_log10{MODEL, signal="all"})', "{{model}}"),
                Query("max(losscast_drift_threshold_log10{MODEL})", "threshold"),
            ).max(10),
            "threshold",
        ),
        lines(
            "Evidence by signal",
            "The signals that a change shows in. The panel cuts it off at 10.",
            "short",
            Query(
                'max by (model, signal) (losscast_drift_evidence_log10{MODEL, signal!="all"})', "{{model}} {{signal}}"
            ),
        ).max(10),
        lines(
            "Shift by signal",
            "Mean rank in the reference, minus 1/2. 0: no change; above 0: values went up; at most .5 in both "
            "directions.",
            "short",
            Query("max by (model, signal) (losscast_drift_shift{MODEL})", "{{model}} {{signal}}"),
        ),
    ],
)

LOSS = Row(
    "Predicted loss of $model",
    [
        dashed(
            with_band(
                lines(
                    "Estimated mean loss: $model",
                    "Over the drift window, with its interval, beside that of the reference. Audit labels correct it "
                    "if there are enough. In the unit of the task's loss.",
                    "short",
                    Query("max by (model) (losscast_estimated_loss{MODEL})", "estimated"),
                    Query("max by (model) (losscast_estimated_loss_high{MODEL})", "high"),
                    Query("max by (model) (losscast_estimated_loss_low{MODEL})", "low"),
                    Query("max by (model) (losscast_reference_loss{MODEL})", "reference"),
                    Query(
                        "sum by (model) (rate(losscast_predicted_loss_sum{MODEL}[RATE])) / sum by (model)"
                        " (rate(losscast_predicted_loss_count{MODEL}[RATE]))",
                        "predicted, last minutes",
                    ),
                    is_from_zero=False,
                ).span(24),
                "high",
                "low",
            ),
            "reference",
        ).repeat("model"),
    ],
)

RANKS = Row(
    "Over the ranks of the reference",
    [
        cells(
            "Predicted loss",
            "Images by the rank of their predicted loss in the reference. Without a change, each tenth below .9 gets a "
            "tenth of the images, and the rows above .99 get one in a hundred.",
            "sum by (le) (increase(losscast_predicted_loss_rank_bucket{MODEL}[RATE]))",
        ),
        cells(
            "OOD score",
            "Images by the rank of their OOD score in the reference: the distance from images that the model knows.",
            "sum by (le) (increase(losscast_ood_score_rank_bucket{MODEL}[RATE]))",
        ),
    ],
)

FLAGS = Row(
    "Verdicts",
    [
        lines(
            "Flag rate by reason",
            "Share of images. An image can have both reasons. The model's operating point states the guarantee.",
            "percentunit",
            Query(
                f"sum by (reason) (rate(losscast_flags_total{{MODEL}}[RATE])) / on () group_left () {IMAGES}",
                "{{reason}}",
            ),
            Query(f'sum(rate(losscast_verdicts_total{{MODEL, verdict="lossy"}}[RATE])) / {IMAGES}', "either"),
        ),
        lines(
            "OOD exceedance",
            "Share of images in the drift window whose OOD score is above the reference's 95 % point. Without a change "
            "it is 5 %.",
            "percentunit",
            Query("max by (model) (losscast_ood_exceedance_ratio{MODEL})", "{{model}}"),
        ),
        lines(
            "Embedding shift",
            "Length of the window's mean embedding, in standard deviations of the reference.",
            "short",
            Query("max by (model) (losscast_drift_embedding_shift{MODEL})", "{{model}}"),
        ),
    ],
)

WATCH = Row(
    "Drift monitoring",
    [
        number(
            "Age of the report",
            "The oldest of the chosen models. It grows while Redis is away, or if no replica makes reports.",
            "s",
            "max(losscast_drift_report_age_seconds{MODEL})",
            steps={60: YELLOW, 600: RED},
        ).span(6),
        number(
            "Not flushed yet",
            "Images that a replica has counted and not yet sent to Redis.",
            "short",
            "sum(losscast_drift_unflushed_observations{INSTANCE})",
        ).span(6),
        number(
            "Flushes",
            "Rate over all chosen replicas.",
            "ops",
            "sum(rate(losscast_drift_flushes_total{INSTANCE}[RATE]))",
        ).span(6),
        number(
            "Flushes that failed",
            "They are tried again; their images count once.",
            "ops",
            "sum(rate(losscast_drift_flush_errors_total{INSTANCE}[RATE]))",
            steps={0.01: YELLOW},
        ).span(6),
        lines(
            "Observations",
            "counted: images that count for the evidence. thinned: further images of one source within seconds. "
            "not_finite: counted images that the mean embedding leaves out.",
            "reqps",
            Query("sum by (outcome) (rate(losscast_drift_observations_total{MODEL}[RATE]))", "{{outcome}}"),
        ).span(12),
        lines(
            "Population stability index",
            "For readers who know it. It decides nothing: its value without a change depends on the window's size.",
            "short",
            Query("max by (model, signal) (losscast_drift_psi{MODEL})", "{{model}} {{signal}}"),
        ).span(12),
    ],
)


def build() -> dict[str, Any]:
    text = "Predicted loss, verdicts and drift: whether images still look like those the model was calibrated on."
    return board("losscast-detection", "Losscast: failure detection", text, [DRIFT, LOSS, RANKS, FLAGS, WATCH])
