"""The line: one image from its bytes to its outcome.

decode -> batch -> infer -> verdict -> journal if lossy or drawn for audit -> observe -> reply. Redis is not part of the
line: a sample is written to the journal on disk before the reply says so, and `labelling.drain` takes it from there to
the queue.
"""

import asyncio
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.contract.manifest import Manifest
from service.drift.tally import Tally
from service.errors import BadRequest, DeadlineExceeded, ServiceError, Unavailable
from service.inference.batcher import Batcher, BatchResult
from service.inference.conduct import Conduct
from service.inference.decode import Picture, as_picture, decode, is_small, png
from service.inference.intake import Intake
from service.inference.outcome import Forecast, Outcome, QueueState
from service.inference.verdict import give_verdict
from service.labelling.journal.errors import JournalUnavailable
from service.labelling.journal.journal import Journal
from service.labelling.samples.fields import sample_of
from service.labelling.samples.sample import Sample, sample_id
from service.labelling.samples.value import surprise
from service.telemetry.metrics import ModelMetrics
from service.telemetry.tracing import Tracing

log = logging.getLogger(__name__)
access = logging.getLogger("service.access")

JOURNAL_S = 2.0  # when the disk takes longer, the sample is lost and the prediction is still answered


@dataclass(frozen=True, slots=True)
class Predictor:
    """The line of one version. `versions.loaded_version` makes it and closes the parts that belong to it."""

    manifest: Manifest
    operating_point: str  # for requests that name none
    max_pixels: int
    audit_rate: float  # share of all images that goes to the audit lane, lossy or not
    decoders: ThreadPoolExecutor
    batcher: Batcher[NDArray[np.uint8], Forecast]
    journal: Journal
    metrics: ModelMetrics
    drift: Tally
    tracing: Tracing | None = None
    conduct: Conduct = field(default_factory=Conduct)  # what `versions.probation` judges it by

    def choose(self, operating_point: str | None) -> str:
        """The operating point of a request that asks for this one. Raises BadRequest for one that the bundle lacks."""
        refused = self.manifest.refused_operating_points
        name = self.operating_point if operating_point is None else operating_point
        if name in refused:
            raise BadRequest(f"operating point {name!r} is not offered: {refused[name]}")
        if name not in self.manifest.operating_points:
            raise BadRequest(
                f"there is no operating point {name!r}: choose one of {', '.join(self.manifest.operating_points)}"
            )
        return name

    async def predict(self, body: bytes, intake: Intake) -> Outcome:
        """body: the bytes of a JPEG, PNG or WebP file.

        intake: its operating point is None, or one that `choose` returned. The image is journalled when the verdict
        at that point is lossy. Raises DeadlineExceeded, the errors of decode and batcher, and ModelFault.
        """
        clock = _Clock()
        with self.metrics.triton_statistics.inference():
            if is_small(body):  # handing it to a thread would take longer than decoding it
                read = self._read(body, intake)
            else:
                loop = asyncio.get_running_loop()
                read = await loop.run_in_executor(self.decoders, self._read, body, intake)
            return await self._answer(read, intake, clock)

    async def predict_canvas(self, canvas: NDArray[np.uint8], intake: Intake) -> Outcome:
        """canvas: uint8 [height, width, channels], as the model takes it; keypoints come in its pixels.

        As `predict`, but the journal gets a lossless PNG of the canvas in the place of the file. Few canvases are
        journalled, so the PNG is made only then, and the sample's id is made of the canvas: its shape and its pixels.
        Raises BadRequest for another shape or type.
        """
        clock = _Clock()
        picture = as_picture(canvas, self.manifest.preprocessing)
        identity = sample_id(self.manifest.model, b"canvas %d %d %d\0" % canvas.shape + canvas.tobytes())
        with self.metrics.triton_statistics.inference():
            return await self._answer(_Read(picture, identity, None), intake, clock)

    async def _answer(self, read: "_Read", intake: Intake, clock: "_Clock") -> Outcome:
        clock.lap("decode")
        audited = random.random() < self.audit_rate  # noqa: S311 - a fair draw, not a secret
        result = await self._infer(read.picture.canvas, intake.deadline)
        clock.note(wait=result.wait_s, infer=result.run_s)
        forecast, picture = result.output, read.picture
        size = None if read.file is None else (picture.width, picture.height)
        counts = self.drift.observe(forecast, picture.canvas, size, intake.source)
        outcome = Outcome(
            request_id=intake.request_id,
            sample_id=read.identity,
            model=self.manifest.model,
            version=self.manifest.version,
            prediction=self._to_image(forecast.prediction, read.picture),
            forecast=forecast,
            verdict=give_verdict(
                forecast.score,
                forecast.ood_score,
                self.manifest.operating_points,
                intake.operating_point or self.operating_point,
            ),
            value=surprise(forecast.score, self.manifest.drift_reference["score"]),
            ood_value=surprise(forecast.ood_score, self.manifest.drift_reference["ood_score"]),
            audited=audited,
            counts_for_drift=counts,
            station_s=clock.done(),
        )
        if outcome.verdict.lossy or audited:  # shielded, so that the sample is kept when the client leaves now
            clock.note()  # so that the journal's time does not include the verdict's
            queue = await asyncio.shield(self._journal(outcome, read, intake.source))
            clock.lap("journal")
            outcome = replace(outcome, queue=queue, station_s=clock.done())
        if intake.operating_point in {None, self.operating_point}:
            self.conduct.weigh(lossy=outcome.verdict.lossy)
        self.metrics.observe(outcome, result.batch_size)
        if self.tracing is not None:
            self.tracing.line(outcome, result.batch_size)
        return outcome

    async def _infer(self, canvas: NDArray[np.uint8], deadline: float) -> BatchResult[Forecast]:
        try:
            result = await self.batcher(canvas, deadline)
        except Unavailable:  # the service ends or restarts a worker: this is not about the version
            raise
        except ServiceError:
            self.conduct.fault()
            raise
        self.conduct.answer(result.run_s)
        return result

    def _read(self, body: bytes, intake: Intake) -> "_Read":
        if time.monotonic() >= intake.deadline:
            raise DeadlineExceeded("the deadline passed before the image was decoded: retry, or allow more")
        picture = decode(body, self.manifest.preprocessing, self.max_pixels)
        return _Read(picture, sample_id(self.manifest.model, body), body)

    def _to_image(self, prediction: NDArray[np.float32], picture: Picture) -> NDArray[np.float64]:
        if self.manifest.task.kind == "keypoints":
            return picture.placement.to_image(prediction)
        return prediction.astype(np.float64)

    async def _journal(self, outcome: Outcome, read: "_Read", source: str | None) -> QueueState:
        file = read.file
        if file is None:
            file = await asyncio.get_running_loop().run_in_executor(self.decoders, png, read.picture.canvas)
        sample = sample_of(
            outcome, read.picture, self.manifest, file_bytes=len(file), source=source, audit_rate=self.audit_rate
        )
        try:
            async with asyncio.timeout(JOURNAL_S):
                await self.journal.append(sample, file)
        except (JournalUnavailable, TimeoutError) as error:
            words = error or f"no answer in {JOURNAL_S:g} s"
            log.warning("a sample was not journalled: %s", words, extra=_log_fields(sample))
            return "unavailable"
        access.info("sample journalled", extra=_log_fields(sample))
        return "accepted"


def _log_fields(sample: Sample) -> dict[str, object]:
    names = ("model", "version", "lane", "reasons")
    return {"sample_id": sample.id, **{name: getattr(sample, name) for name in names}}


@dataclass(frozen=True, slots=True)
class _Read:
    """An image that was decoded."""

    picture: Picture
    identity: str  # of its sample
    file: bytes | None  # as posted; None: the request sent a canvas


class _Clock:
    """The seconds that each station of the line takes."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self._stations: dict[str, float] = {}

    def lap(self, station: str) -> None:
        now = time.perf_counter()
        self._stations[station], self._last = now - self._last, now

    def note(self, **stations: float) -> None:
        self._stations.update(stations)
        self._last = time.perf_counter()

    def done(self) -> dict[str, float]:
        return {**self._stations, "total": time.perf_counter() - self._started}
