"""The gauges and counters that are read when /metrics is scraped: which one reads what, and its help text.

Outcomes and requests are counted as they happen, in `service.telemetry.metrics`.
"""

from service.drift.monitor import Monitor
from service.drift.watch import Watches
from service.inference.admission import Admission
from service.labelling.drain import Drain
from service.labelling.endings import Endings
from service.labelling.janitor import Janitor
from service.labelling.journal.journal import Journal
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.versions.bundle_store import PatientStore
from service.versions.probation import Probations


def watch_line(metrics: Metrics, admission: Admission, store: PatientStore) -> None:
    metrics.watch(
        gauges={
            "losscast_in_flight": ("Images that have come and are not answered.", lambda: admission.in_flight),
            "losscast_in_flight_bytes": ("Bytes of bodies, as they come.", lambda: admission.in_flight_bytes),
            "losscast_bundle_store_silent_seconds": (
                "For how long the bundle store has not answered.",
                lambda: store.silent_s,
            ),
        },
        counters={},
    )


def watch_labelling(metrics: Metrics, journal: Journal, drain: Drain, endings: Endings, janitor: Janitor) -> None:
    metrics.watch(
        gauges={
            "losscast_journal_rows": ("Samples in the journal, on their way to the queue.", lambda: journal.rows),
            "losscast_journal_bytes": ("Bytes of images in the journal.", lambda: journal.size_bytes),
            "losscast_journal_oldest_age_seconds": ("Age of the oldest sample there.", lambda: journal.oldest_age_s),
            "losscast_journal_endings": ("Labels, rejections and erasures not settled yet.", lambda: journal.endings),
        },
        counters={
            "losscast_drained": ("Samples that went from the journal to the queue.", lambda: drain.drained),
            "losscast_drain_errors": ("Times the drain failed and backed off.", lambda: drain.failures.errors),
            "losscast_endings_restored": ("Endings given again to a server that lost them.", lambda: endings.restored),
            "losscast_endings_given_up": ("Endings lost by the server for good; logged.", lambda: endings.given_up),
            "losscast_endings_errors": (
                "Times that settling endings failed and backed off.",
                lambda: endings.failures.errors,
            ),
            "losscast_janitor_deleted": ("Images deleted because no sample has them.", lambda: janitor.deleted),
            "losscast_janitor_errors": ("Steps of the janitor that failed.", lambda: janitor.failures.errors),
        },
    )


def watch_drift(metrics: Metrics, watches: Watches, monitor: Monitor) -> None:
    metrics.watch(
        gauges={
            "losscast_drift_unflushed_observations": (
                "Images that are not in the drift ledger yet.",
                lambda: watches.unflushed,
            ),
        },
        counters={
            "losscast_drift_faults": ("Times that adding up images for drift failed.", lambda: watches.faults),
            "losscast_drift_flushes": ("Flushes that the drift ledger confirmed.", lambda: monitor.flushes),
            "losscast_drift_flush_errors": (
                "Flushes that failed and are tried again; each counts once.",
                lambda: monitor.errors,
            ),
        },
    )


def watch_probation(metrics: Metrics, probations: Probations) -> None:
    metrics.watch(
        gauges={},
        counters={
            "losscast_probation_errors": (
                "Times that a version on probation could not be judged or rolled back.",
                lambda: probations.failures.errors,
            ),
        },
    )


def watch_limits(metrics: Metrics, settings: Settings) -> None:
    metrics.watch(
        gauges={
            "losscast_in_flight_limit": ("Images admitted at a time.", lambda: settings.max_in_flight),
            "losscast_in_flight_bytes_limit": ("Bytes admitted at a time.", lambda: settings.max_in_flight_bytes),
            "losscast_journal_rows_limit": ("Samples that the journal takes.", lambda: settings.journal_max_rows),
            "losscast_journal_bytes_limit": ("Bytes that the journal takes.", lambda: settings.journal_max_bytes),
        },
        counters={},
    )
