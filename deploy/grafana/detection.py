"""The dashboard of failure detection: predicted loss, verdicts, drift and its evidence.

Drift is judged over all replicas together and told alike by each of them: max, not sum.
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
            "drift: the evidence is past its threshold and the effect is large enough to matter. warning: evidence "
            "without such an effect. `losscast drift` says what moved, since when, and what to do.",
            {value: (name, COLORS[value]) for value, name in STATES.items()},
            Query(f"max by (model) ({STATE})", "{{model}}"),
        ),
        dashed(
            lines(
                "Evidence",
                "log10 of the test martingale over all signals: 2 says that 100 was won by betting on a change. It "
                "starts anew every day, and is cut off at 10 here.",
                "short",
                Query('max by (model) (losscast_drift_evidence_log10{MODEL, signal="all"})', "{{model}}"),
                Query("max(losscast_drift_threshold_log10{MODEL})", "threshold"),
            ).max(10),
            "threshold",
        ),
        lines(
            "Evidence by signal",
            "Which signals a change shows in; cut off likewise.",
            "short",
            Query(
                'max by (model, signal) (losscast_drift_evidence_log10{MODEL, signal!="all"})', "{{model}} {{signal}}"
            ),
        ).max(10),
        lines(
            "What moved",
            "Mean rank of the window's images among the reference's, minus a half: 0 when nothing moved, at most .5 "
            "either way, above 0 when values went up.",
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
                    "Over the drift window, with its interval, beside the reference's; corrected by audit labels where "
                    "there are some. In the unit of the task's loss.",
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
            "Images by the rank of their predicted loss among the reference's. Where nothing moved, each tenth "
            "below .9 gets a tenth of the images, and the rows above .99 one in a hundred.",
            "sum by (le) (increase(losscast_predicted_loss_rank_bucket{MODEL}[RATE]))",
        ),
        cells(
            "OOD score",
            "Likewise, by the distance of the image from all that the model knows.",
            "sum by (le) (increase(losscast_ood_score_rank_bucket{MODEL}[RATE]))",
        ),
    ],
)

FLAGS = Row(
    "Verdicts",
    [
        lines(
            "Flag rate by reason",
            "Of the images; one can be flagged for both reasons. The model's operating point says what was promised.",
            "percentunit",
            Query(
                f"sum by (reason) (rate(losscast_flags_total{{MODEL}}[RATE])) / on () group_left () {IMAGES}",
                "{{reason}}",
            ),
            Query(f'sum(rate(losscast_verdicts_total{{MODEL, verdict="lossy"}}[RATE])) / {IMAGES}', "either"),
        ),
        lines(
            "OOD exceedance",
            "Share of the drift window's images whose OOD score is above the reference's 95 % point: 5 % where nothing "
            "moved.",
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
    "How drift is watched",
    [
        number(
            "Age of the report",
            "Of the oldest of the chosen models. It grows while Redis is away, or when no replica makes reports.",
            "s",
            "max(losscast_drift_report_age_seconds{MODEL})",
            steps={60: YELLOW, 600: RED},
        ).span(6),
        number(
            "Not flushed yet",
            "Images that a replica has counted and Redis has not got.",
            "short",
            "sum(losscast_drift_unflushed_observations{INSTANCE})",
        ).span(6),
        number(
            "Flushes",
            "By all chosen replicas.",
            "ops",
            "sum(rate(losscast_drift_flushes_total{INSTANCE}[RATE]))",
        ).span(6),
        number(
            "Flushes that failed",
            "They are tried again, and count once.",
            "ops",
            "sum(rate(losscast_drift_flush_errors_total{INSTANCE}[RATE]))",
            steps={0.01: YELLOW},
        ).span(6),
        lines(
            "Observations",
            "counted: as evidence. thinned: further images of one source within seconds. not_finite: of those counted, "
            "left out of the mean embedding.",
            "reqps",
            Query("sum by (outcome) (rate(losscast_drift_observations_total{MODEL}[RATE]))", "{{outcome}}"),
        ).span(12),
        lines(
            "Population stability index",
            "For those who know it. It decides nothing: what it is without any change depends on the window's size.",
            "short",
            Query("max by (model, signal) (losscast_drift_psi{MODEL})", "{{model}} {{signal}}"),
        ).span(12),
    ],
)


def build() -> dict[str, Any]:
    text = "Predicted loss, verdicts and drift: whether the world is still the one that the model was calibrated on."
    return board("losscast-detection", "Losscast: failure detection", text, [DRIFT, LOSS, RANKS, FLAGS, WATCH])
