"""What `losscast refine --watch` does with its options: it runs the refiner and its metrics until a signal ends it."""

import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from models.refinement.by_itself.metrics import RefinerMetrics
from models.refinement.by_itself.refiner import Orders, Refiner
from models.refinement.by_itself.triggers import Wanted
from models.refinement.config import RefinementError
from models.refinement.service_api import ServiceApi

log = logging.getLogger(__name__)


def watch(  # noqa: PLR0913, PLR0917 - one for each option
    model: str,
    store: Path,
    url: str | None,
    options: Sequence[str],
    wanted: Wanted,
    poll_s: float,
    promotes: bool,  # noqa: FBT001 - as above
    who: str,
    metrics_host: str,
    metrics_port: int,
) -> None:
    """Runs until SIGTERM or SIGINT. options: of each `losscast refine`. Raises RefinementError for a taken port."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every look at the service
    command = [sys.executable, "-m", "losscast", "refine", model, "--store", str(store), "--who", who, *options]
    metrics = RefinerMetrics(model, wanted.labels)
    try:
        port = metrics.serve(metrics_host, metrics_port)
    except OSError as error:
        raise RefinementError(
            f"the metrics cannot be served on {metrics_host}:{metrics_port} ({error.strerror}): choose another "
            "--metrics-port"
        ) from error
    with ServiceApi(url) as api:
        orders = Orders(model, store, [*command, "--url", api.url], wanted, poll_s, promotes, who)
        refiner = Refiner(orders, api, metrics)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: refiner.stop())
        log.info("the refiner of %s looks at %s every %g s; metrics on port %d", model, api.url, poll_s, port)
        refiner.run()
    log.info("the refiner of %s has stopped", model)
