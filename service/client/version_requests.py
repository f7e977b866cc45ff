"""One function for each request about versions and candidates; the methods of both clients are made of them."""

from service.client.building import model_path, post_to, reads
from service.client.transport import ApiRequest
from service.schemas.versions import (
    MAX_SAMPLES,
    WAIT_S,
    CandidatesReply,
    HistoryReply,
    LearnedPage,
    LearnedReply,
    LiveReply,
    PromoteRequest,
    RollbackRequest,
)


def promote(  # noqa: PLR0913 - all but two are keyword-only
    model: str,
    version: str | int | None = None,
    *,
    expected_live: str | int,
    reason: str,
    who: str = "unknown",
    candidate: str | None = None,
    override: bool = False,
    wait_s: float = WAIT_S,
) -> ApiRequest[LiveReply]:
    """Makes a published version or a candidate live, if expected_live is live now. Repeating it does no harm.

    override: promote a candidate whose gates failed or have not run. The service waits, for wait_s at most, until every
    replica serves the version; the reply names those that do not.
    """
    request = PromoteRequest(
        version=None if version is None else str(version),
        candidate=candidate,
        override=override,
        expected_live=str(expected_live),
        reason=reason,
        who=who,
        wait_s=wait_s,
    )
    return post_to(f"{model_path(model)}/promote", request, LiveReply, wait_s)


def candidates(model: str) -> ApiRequest[CandidatesReply]:
    """The candidates of a model with their states and what their gates said, oldest first."""
    return ApiRequest("GET", f"{model_path(model)}/candidates", reads(CandidatesReply))


def rollback(  # noqa: PLR0913 - all but one are keyword-only
    model: str,
    *,
    expected_live: str | int,
    reason: str,
    to: str | int | None = None,
    who: str = "unknown",
    wait_s: float = WAIT_S,
) -> ApiRequest[LiveReply]:
    """Makes the previous version live again, or version `to`, if expected_live is live now. Repeating it does no harm.

    Right after a rollback, a second one needs `to`. The service waits as for promote.
    """
    target = None if to is None else str(to)
    request = RollbackRequest(expected_live=str(expected_live), reason=reason, to=target, who=who, wait_s=wait_s)
    return post_to(f"{model_path(model)}/rollback", request, LiveReply, wait_s)


def history(model: str, n: int = 100) -> ApiRequest[HistoryReply]:
    """What is live in the bundle store, and its n newest changes, newest first."""
    return ApiRequest("GET", f"{model_path(model)}/history", reads(HistoryReply), params={"n": str(n)})


def learned(model: str, sample_id: str | None = None) -> ApiRequest[LearnedReply]:
    """Which versions learned from labels; sample_id: only those that learned from this sample."""
    params = {} if sample_id is None else {"sample": sample_id}
    return ApiRequest("GET", f"{model_path(model)}/learned", reads(LearnedReply), params=params)


def learned_page(model: str, version: str | int, start: int = 0, n: int = MAX_SAMPLES) -> ApiRequest[LearnedPage]:
    """Ids of the samples that a version learned from, without the first `start` ones."""
    params = {"start": str(start), "n": str(n)}
    return ApiRequest("GET", f"{model_path(model)}/learned/{version}", reads(LearnedPage), params=params)
