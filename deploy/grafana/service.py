"""The dashboard of the service: traffic, errors, latency by station, saturation, running versions."""

from typing import Any

from deploy.grafana.panels import RED, YELLOW, Query, Row, board, cells, lines, listing, number

PREDICTED = "sum(rate(losscast_verdicts_total{MODEL}[RATE]))"
ANSWERED = "sum(rate(losscast_verdicts_total{INSTANCE}[RATE]))"  # over all models, because a rejection has no model
REFUSED = "sum(rate(losscast_rejected_total{INSTANCE}[RATE]))"
BUCKETS = 'losscast_station_seconds_bucket{MODEL, station="total"}'
WHOLE = f"(rate({BUCKETS}[RATE]))"
CALLS = 'losscast_requests_total{INSTANCE, endpoint!~"/metrics|/v2/health/.*"}'
PLACES = "max(losscast_in_flight{INSTANCE} / losscast_in_flight_limit)"
BYTES = "max(losscast_in_flight_bytes{INSTANCE} / losscast_in_flight_bytes_limit)"

NOW = Row(
    "Now",
    [
        number("Images answered", "Rate over all chosen replicas and models.", "reqps", PREDICTED),
        number(
            "Refused or failed",
            "Share of images or requests that got an error, over all models. The reasons are below.",
            "percentunit",
            f"{REFUSED} / ({REFUSED} + {ANSWERED})",
            steps={0.01: YELLOW, 0.05: RED},
        ),
        number(
            "Latency, median",
            "From the last byte of the body to the answer.",
            "s",
            f"histogram_quantile(0.5, sum by (le) {WHOLE})",
        ),
        number(
            "Latency, 99 %",
            "From the last byte of the body to the answer.",
            "s",
            f"histogram_quantile(0.99, sum by (le) {WHOLE})",
            steps={0.5: YELLOW, 2: RED},
        ),
        number("Replicas", "Replicas that Prometheus reaches.", "short", "count(losscast_build_info{INSTANCE})"),
        number(
            "In flight",
            "Images of the fullest replica, or their bytes, as a share of its limit. At 100 % callers get 429.",
            "percentunit",
            f"{PLACES} > {BYTES} or {BYTES}",
            steps={0.5: YELLOW, 0.8: RED},
        ),
    ],
)

TRAFFIC = Row(
    "Traffic and errors",
    [
        lines(
            "Requests by endpoint",
            "Without probes and scrapes. A request to /v1/predict or /v2/…/infer can have several images.",
            "reqps",
            Query(f"sum by (endpoint) (rate({CALLS}[RATE]))", "{{endpoint}}"),
        ),
        lines(
            "Answers by status",
            "499: the client left before the answer.",
            "reqps",
            Query(f"sum by (code) (rate({CALLS}[RATE]))", "{{code}}"),
            is_stacked=True,
        ),
        lines(
            "Refused or failed, by reason",
            "Error codes of predictions. Codes that do not occur are not shown.",
            "reqps",
            Query("sum by (reason) (rate(losscast_rejected_total{INSTANCE}[RATE])) > 0", "{{reason}}"),
            is_stacked=True,
        ),
    ],
)

LATENCY = Row(
    "Latency by station",
    [
        lines(
            "From body to answer",
            "Quantiles over all chosen models, estimated from buckets.",
            "s",
            *(Query(f"histogram_quantile({q}, sum by (le) {WHOLE})", f"{100 * q:g} %") for q in (0.5, 0.9, 0.99)),
        ),
        lines(
            "Where the time goes",
            "Mean seconds of an answered image at each station: decoding, waiting for a place in a batch, the run of "
            "the engine, the journal.",
            "s",
            Query(
                'sum by (station) (rate(losscast_station_seconds_sum{MODEL, station!="total"}[RATE]))'
                ' / on () group_left () sum(rate(losscast_station_seconds_count{MODEL, station="total"}[RATE]))',
                "{{station}}",
            ),
            is_stacked=True,
        ),
        lines(
            "99 % at each station",
            "Over the images that passed the station.",
            "s",
            Query(
                "histogram_quantile(0.99, sum by (le, station) (rate(losscast_station_seconds_bucket{MODEL}[RATE])))",
                "{{station}}",
            ),
        ),
        cells(
            "Latency, whole distribution",
            "Images by their seconds from body to answer.",
            f"sum by (le) (increase({BUCKETS}[RATE]))",
        ),
        lines(
            "By model",
            "99 % from body to answer.",
            "s",
            Query(f"histogram_quantile(0.99, sum by (le, model) {WHOLE})", "{{model}}"),
        ).span(12),
    ],
)

SATURATION = Row(
    "Saturation",
    [
        lines(
            "In flight",
            "Images that a replica holds, as a share of LOSSCAST_MAX_IN_FLIGHT, at the moment of a scrape.",
            "percentunit",
            Query("max by (instance) (losscast_in_flight{INSTANCE} / losscast_in_flight_limit)", "{{instance}}"),
        ),
        lines(
            "Mean batch size",
            "Images that the engine runs at a time. It grows with the load, up to the size found at warm-up.",
            "short",
            Query(
                "sum by (model) (rate(losscast_batch_size_sum{MODEL}[RATE])) / sum by (model)"
                " (rate(losscast_batch_size_count{MODEL}[RATE]))",
                "{{model}}",
            ),
        ),
        lines(
            "Processors used",
            "Seconds of processor time per second.",
            "short",
            Query("rate(losscast_process_cpu_seconds_total{INSTANCE}[RATE])", "{{instance}}"),
        ),
        lines(
            "Memory",
            "Resident memory.",
            "bytes",
            Query("losscast_process_resident_memory_bytes{INSTANCE}", "{{instance}}"),
        ),
        lines(
            "Open files",
            "As a share of the limit of the process. Connections count as files.",
            "percentunit",
            Query("losscast_process_open_fds{INSTANCE} / losscast_process_max_fds", "{{instance}}"),
        ),
        lines(
            "Journal",
            "Its rows and bytes, as a share of their limits. A full journal loses flagged samples.",
            "percentunit",
            Query("losscast_journal_rows{INSTANCE} / losscast_journal_rows_limit", "{{instance}} rows"),
            Query("losscast_journal_bytes{INSTANCE} / losscast_journal_bytes_limit", "{{instance}} bytes"),
        ),
    ],
)

RUNNING = Row(
    "Running versions",
    [
        listing(
            "Live versions",
            "By replica, with the provider of the engine.",
            "max by (model, version, provider, instance) (losscast_engine_info{MODEL})",
        ).height(5),
        listing(
            "Programs", "By replica.", "max by (version, python, onnxruntime, instance) (losscast_build_info{INSTANCE})"
        ).height(5),
        lines(
            "Versions that could not be loaded",
            "Versions that model.json names and that are missing, on the replica that misses most. A version that was "
            "live stays live; without one, callers get 503. `GET /v1/models` and the log have the reason.",
            "short",
            Query("max by (model) (losscast_model_versions_failed{MODEL})", "{{model}}"),
        ).span(12),
        lines(
            "Bundle store silent",
            "Seconds since it last answered a replica.",
            "s",
            Query("losscast_bundle_store_silent_seconds{INSTANCE}", "{{instance}}"),
        ).span(12),
    ],
)


def build() -> dict[str, Any]:
    text = "Traffic, errors, latency and saturation of every replica."
    return board("losscast-service", "Losscast: service", text, [NOW, TRAFFIC, LATENCY, SATURATION, RUNNING])
