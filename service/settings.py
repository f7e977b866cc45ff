"""The settings: read once from LOSSCAST_* environment variables, frozen, and passed down."""

import ipaddress
import itertools
import math
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB, GIB = 2**20, 2**30
CGROUP, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
QUOTA_FILES = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))  # cgroup v2 and v1


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def available_cpus() -> int:
    """The number of processors that this process may use, by its affinity and the quotas of its control groups."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder, names in itertools.product(_cgroups(), QUOTA_FILES):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if quota.isdecimal():  # otherwise it is "max" or -1, which mean no quota
            count = min(count, math.ceil(int(quota) / int(period)))
    return max(count, 1)


def _cgroups() -> set[Path]:
    """The folders of the process's control groups and of the groups above them. Each may have a quota."""
    folders = {CGROUP, CGROUP / "cpu"}
    for line in OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.exists() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            own = CGROUP / ("cpu" if controllers else "") / path.lstrip("/")
            folders |= {own, *own.parents}
    return folders


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LOSSCAST_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()  # comma-separated in the environment

    bundles: Path = Path("bundles")  # the bundle store
    model: str = "pose"  # the default model, served at /v1/predict
    models: Annotated[tuple[str, ...], NoDecode] = ()  # served beside it, comma-separated; empty: all of the store
    poll_s: float = Field(default=5.0, ge=0)  # between two looks at the store; 0: it is read at the start only
    probation_s: float = Field(default=3600.0, ge=0)  # after a promotion; a version that misbehaves goes back. 0: off
    probation_images: int = Field(default=2000, ge=100)  # after which a probation ends earlier
    operating_point: str | None = None  # None: the default one of the bundle
    provider: Literal["cpu", "gpu"] = "cpu"
    workers: PositiveInt | None = None  # threads that call the engine; None: measured when a model is loaded
    decode_workers: PositiveInt = Field(default_factory=available_cpus)
    max_batch: PositiveInt | None = None  # images in one call of the engine; None: measured as well
    hang_s: PositiveFloat = 30.0  # a call of the engine that takes longer counts as hung, and the process ends itself
    max_in_flight: PositiveInt = 256  # images admitted at a time; the next one gets 429
    max_in_flight_bytes: PositiveInt = 512 * MIB  # bytes of bodies admitted at a time; the next one gets 429
    request_timeout_s: PositiveFloat = 10.0  # from the last byte of the body to the reply
    upload_timeout_s: PositiveFloat = 30.0  # for a body, from its first to its last byte
    drain_s: float = Field(default=0.0, ge=0)  # after the signal to stop: not ready, but still accepting requests

    max_body_bytes: PositiveInt = 16 * MIB
    max_pixels: PositiveInt = 40_000_000

    log_format: Literal["json", "console"] | None = None  # None: console on a terminal, else JSON

    state: Path = Path(".losscast")  # journal, blobs and the private Valkey's data
    journal_max_bytes: PositiveInt = GIB
    journal_max_rows: PositiveInt = 100_000
    blobs: str | None = None  # None: a folder in `state`; or file://, s3://, gs://, az:// (see obstore)
    redis_url: SecretStr | None = None  # None: a private Valkey in `state`
    redis_timeout_s: PositiveFloat = 2.0

    audit_rate: float = Field(default=0.01, ge=0, le=1)  # share of all images drawn for the audit lane
    lease_s: PositiveFloat = 600.0  # how long a leased sample is kept for its annotator
    labels_per_hour: PositiveInt | None = None  # the labelling budget; None: no limit
    audit_share: float = Field(default=0.1, ge=0, le=1)  # of leases, for the audit lane
    ood_share: float = Field(default=0.2, ge=0, le=1)  # of leases, for samples flagged by their OOD score alone
    max_expiries: PositiveInt = 5  # leases that may run out before a sample is a dead letter
    max_pending: PositiveInt = 100_000  # samples; above it the least valuable ones are evicted
    max_pending_per_source: PositiveInt = 1_000  # of one X-Source
    max_queue_bytes: PositiveInt = 10 * GIB  # of images of pending and leased samples
    retention_days: PositiveFloat = 30.0  # after it, finished samples are deleted and pending ones evicted

    drift_flush_s: PositiveFloat = 5.0  # between two flushes of the counts; each flush updates the evidence
    drift_threshold: float = Field(
        default=100.0, gt=1
    )  # evidence for an alert: chance exceeds it on one day in so many
    drift_loss_rise: PositiveFloat = 0.1  # of the mean loss, relative to the reference, that an alert needs
    drift_source_interval_s: float = Field(default=10.0, ge=0)  # within it, one image of an X-Source counts
    drift_window_s: PositiveFloat = Field(default=3600.0, le=172_800)  # that reports show; counts are kept for 48 h

    @field_validator("api_keys", "models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(key.strip() for key in value.split(",") if key.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not self.api_keys and not _is_loopback(self.host):
            raise ValueError(
                f"without keys the service binds to loopback only, not to {self.host}: "
                "set LOSSCAST_API_KEYS (comma-separated), or LOSSCAST_HOST=127.0.0.1"
            )
        if self.audit_share + self.ood_share > 1:
            raise ValueError("LOSSCAST_AUDIT_SHARE and LOSSCAST_OOD_SHARE add up to more than 1: lower one")
        return self
