"""The dashboard of labelling: the queue, its pace and budget, the way of samples to it, refinement, and the versions.

All replicas share the queue and report the same figures of it: take max, not sum. Labels are counted by the replica
that took them, and each replica has its own journal.
"""

from typing import Any

from deploy.grafana.panels import RED, YELLOW, Query, Row, board, lines, listing, number

LABELS = "losscast_flag_to_label_seconds"


def _queue(metric: str) -> str:
    return f"max by (model) (losscast_queue_{metric}{{MODEL}})"


def _samples(state: str) -> str:
    return f'max by (model) (losscast_queue_samples{{MODEL, state="{state}"}})'


def _events(events: str) -> str:
    return f'max by (model, event) (rate(losscast_queue_events_total{{MODEL, event=~"{events}"}}[RATE]))'


NOW = Row(
    "Now",
    [
        number("Pending", "Samples that wait for an annotator.", "short", f"sum({_samples('pending')})"),
        number("Leased", "Samples that an annotator holds.", "short", f"sum({_samples('leased')})"),
        number(
            "Oldest sample",
            "Time that the oldest pending sample has waited.",
            "s",
            "max(losscast_queue_oldest_age_seconds{MODEL})",
            steps={3 * 86_400: YELLOW, 14 * 86_400: RED},
        ),
        number(
            "Labels in a day", "Labels of the last 24 hours.", "short", f"sum(increase({LABELS}_count{{MODEL}}[24h]))"
        ).decimals(0),
        number(
            "Budget left",
            "Samples that may still be leased in this hour; -1: no limit.",
            "short",
            "min(losscast_queue_budget_left{MODEL})",
        ),
        number(
            "Queue's server",
            "1: it answers every replica. 0: samples wait in the journal.",
            "short",
            "min(losscast_queue_up{MODEL})",
        ),
    ],
)

QUEUE = Row(
    "Queue",
    [
        lines(
            "Pending",
            "By model. Among them: those of the audit lane, and those flagged by their OOD score alone.",
            "short",
            Query(_samples("pending"), "{{model}}"),
            Query(_queue("pending_audit"), "{{model}} audit"),
            Query(_queue("pending_ood"), "{{model}} OOD"),
        ),
        lines(
            "Samples by state",
            "All samples since the queue began.",
            "short",
            Query("max by (model, state) (losscast_queue_samples{MODEL})", "{{model}} {{state}}"),
        ),
        lines(
            "Oldest sample", "Age of the oldest pending sample.", "s", Query(_queue("oldest_age_seconds"), "{{model}}")
        ),
    ],
)

PACE = Row(
    "Pace",
    [
        lines(
            "In and out",
            "Accepted samples and labels per second. While more samples come than labels, the queue grows, until the "
            "least valuable samples are evicted.",
            "ops",
            Query(f"sum by (model) (rate({LABELS}_count{{MODEL}}[RATE]))", "{{model}} labels"),
            Query(_events("accepted"), "{{model}} accepted"),
        ),
        lines(
            "From flag to label",
            "Time from flag to label, for the labels of the last six hours.",
            "s",
            *(
                Query(
                    f"histogram_quantile({q}, sum by (le, model) (increase({LABELS}_bucket{{MODEL}}[6h])))",
                    f"{{{{model}}}} {100 * q:g} %",
                )
                for q in (0.5, 0.9)
            ),
        ),
        lines(
            "Expired leases and duplicates",
            "Leases that ran out, and samples that were put in again.",
            "ops",
            Query(_events("expired|duplicates"), "{{model}} {{event}}"),
        ),
        lines(
            "Budget left",
            "Samples that may still be leased in this hour; -1: no limit.",
            "short",
            Query(_queue("budget_left"), "{{model}}"),
        ),
        lines(
            "Images waiting",
            "Bytes of images that are pending or leased.",
            "bytes",
            Query(_queue("bytes"), "{{model}}"),
        ),
        lines(
            "Drawn for audit",
            "Share of all images, flagged or not (LOSSCAST_AUDIT_RATE). Their labels correct the estimated loss.",
            "percentunit",
            Query(
                "sum by (model) (rate(losscast_audited_total{MODEL}[RATE])) / sum by (model)"
                " (rate(losscast_verdicts_total{MODEL}[RATE]))",
                "{{model}}",
            ),
        ),
    ],
)

WAY = Row(
    "From the reply to the queue",
    [
        lines(
            "Queue state in replies",
            "accepted: the sample is in the journal. unavailable: the journal is full or broken; the sample is lost.",
            "reqps",
            Query("sum by (queue) (rate(losscast_samples_total{MODEL}[RATE]))", "{{queue}}"),
            is_stacked=True,
        ),
        lines(
            "Journal",
            "Samples on their way to the queue, and endings that are not settled yet.",
            "short",
            Query("losscast_journal_rows{INSTANCE}", "{{instance}} samples"),
            Query("losscast_journal_endings{INSTANCE}", "{{instance}} endings"),
        ),
        lines(
            "Oldest in the journal",
            "Age of the oldest sample.",
            "s",
            Query("losscast_journal_oldest_age_seconds{INSTANCE}", "{{instance}}"),
        ),
        lines(
            "Drained",
            "Samples that reached the queue.",
            "ops",
            Query("rate(losscast_drained_total{INSTANCE}[RATE])", "{{instance}}"),
        ),
        lines(
            "Errors",
            "Failures of the drain, the endings and the janitor. All of them try again.",
            "ops",
            Query("rate(losscast_drain_errors_total{INSTANCE}[RATE])", "{{instance}} drain"),
            Query("rate(losscast_endings_errors_total{INSTANCE}[RATE])", "{{instance}} endings"),
            Query("rate(losscast_janitor_errors_total{INSTANCE}[RATE])", "{{instance}} janitor"),
        ),
        lines(
            "Labels that the server lost",
            "restored: sent to it again from the journal. given up: lost; the log has them.",
            "short",
            Query("increase(losscast_endings_restored_total{INSTANCE}[RATE])", "{{instance}} restored"),
            Query("increase(losscast_endings_given_up_total{INSTANCE}[RATE])", "{{instance}} given up"),
        ),
    ],
)

# The refiner is another process than the replicas that can be chosen, so only the model selects its series.
REFINEMENT = Row(
    "Refinement",
    [
        lines(
            "New labels",
            "Labels since the last refinement began, and the number that starts the next one.",
            "short",
            Query('max by (model) (losscast_refiner_new_labels{model=~"$model"})', "{{model}}"),
            Query('max by (model) (losscast_refiner_wanted_labels{model=~"$model"})', "{{model}} wanted"),
        ),
        lines(
            "Refinements",
            "In a day: the gates passed or refused the candidate, it failed, or another host was at it (busy).",
            "short",
            Query(
                'sum by (model, result) (increase(losscast_refiner_runs_total{model=~"$model"}[24h]))',
                "{{model}} {{result}}",
            ),
        ),
        lines(
            "Running, and on probation",
            "1: a refinement runs, or the live version is on probation after its promotion.",
            "short",
            Query('max by (model) (losscast_refiner_running{model=~"$model"})', "{{model}} refinement"),
            Query("max by (model) (losscast_probation{MODEL})", "{{model}} probation"),
        ),
        lines(
            "A candidate waits",
            "Time since a candidate passed its gates and was not promoted; none: no candidate waits.",
            "s",
            Query(
                'time() - (max by (model) (losscast_refiner_candidate_waiting_since_timestamp_seconds{model=~"$model"})'
                " > 0)",
                "{{model}}",
            ),
        ),
        lines(
            "Changes of the live version",
            "Promotions and rollbacks in a day.",
            "short",
            Query(
                "sum by (model, event) (increase(losscast_version_changes_total{MODEL}[24h]))", "{{model}} {{event}}"
            ),
        ),
        lines(
            "Duration",
            "How long the last refinement took.",
            "s",
            Query('max by (model) (losscast_refiner_last_run_seconds{model=~"$model"})', "{{model}}"),
        ),
    ],
)

VERSIONS = Row(
    "Versions",
    [
        lines(
            "Replicas on a version",
            "A new version becomes live on all replicas within LOSSCAST_POLL_S.",
            "short",
            Query("sum by (model, version) (losscast_model_info{MODEL})", "{{model}} {{version}}"),
        ).span(12),
        listing(
            "Live now",
            "By replica.",
            "max by (model, version, instance) (losscast_model_info{MODEL})",
        ).height(8),
    ],
)


def build() -> dict[str, Any]:
    text = "The labelling queue, its pace, refinement, and the versions of the models."
    return board("losscast-labelling", "Losscast: labelling", text, [NOW, QUEUE, PACE, WAY, REFINEMENT, VERSIONS])
