"""Which version of a model is live: promote one, go back, and read who changed it, when and why."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter

from models.contract.candidates import CandidateRecord
from models.contract.gate_report import GateReport
from models.contract.history import Change
from models.contract.live import Swap
from service.resources import Resources, Shared
from service.schemas.predictions import ErrorReply
from service.schemas.versions import (
    MAX_CHANGES,
    MAX_SAMPLES,
    CandidateFields,
    CandidatesReply,
    ChangeFields,
    GateFields,
    HistoryReply,
    LearnedFields,
    LearnedPage,
    LearnedReply,
    LiveReply,
    ProbationFields,
    PromoteRequest,
    ReplicaFields,
    RollbackRequest,
)
from service.versions.live_changes import LiveChange
from service.versions.probation import Probation

router = APIRouter(tags=["models"], responses={code: {"model": ErrorReply} for code in (400, 404, 409, 503)})


@router.post("/v1/models/{model}/promote")
async def promote(model: str, request: PromoteRequest, shared: Shared) -> LiveReply:
    """Makes a published version, or a candidate as the next version, the live one; the live one becomes `previous`.

    A candidate whose gates failed or have not run is refused (409) unless `override` is true; the history then says so.
    So is one that was judged against a version that is no longer live.

    This replica serves it when the reply comes. The others follow within LOSSCAST_POLL_S; the reply waits for them, for
    `wait_s` at most, and names those that do not serve the version yet: the change stands all the same. 409: another
    version is live than `expected_live`, or the version cannot be loaded here (the change is then undone). 503: the
    bundle store is away or read-only. Repeating the same request does no harm. A model that was unloaded here is loaded
    again.
    """
    change = LiveChange(
        "promoted",
        None if request.version is None else int(request.version),
        int(request.expected_live),
        request.who,
        request.reason,
        request.candidate,
        request.override,
    )
    return await _reply(shared, model, await shared.models.change_live(model, change), request.wait_s)


@router.post("/v1/models/{model}/rollback")
async def rollback(model: str, request: RollbackRequest, shared: Shared) -> LiveReply:
    """Makes the previous version live again. The version that it leaves becomes `previous`.

    Right after a rollback, a second one is refused (409) unless `to` names the version: the previous version is the one
    that was just taken back. Other replicas, errors and repeated requests are as for promote.
    """
    to = None if request.to is None else int(request.to)
    change = LiveChange("rolled_back", to, int(request.expected_live), request.who, request.reason)
    return await _reply(shared, model, await shared.models.change_live(model, change), request.wait_s)


@router.get("/v1/models/{model}/history")
async def history(
    model: str,
    shared: Shared,
    n: Annotated[int, Query(ge=1, le=MAX_CHANGES, description="Number of changes at most.")] = 100,
) -> HistoryReply:
    """The changes of the live version, newest first, as the bundle store has them."""
    state = await shared.models.state(model)
    return HistoryReply(
        model=model,
        live=str(state.index.live),
        previous=_name(state.index.previous),
        served=_served(shared, model),
        probation=_probation(shared.probations.of(model)),
        changes=[_fields(change) for change in reversed(state.changes[-n:])],
    )


@router.get("/v1/models/{model}/candidates")
async def candidates(model: str, shared: Shared) -> CandidatesReply:
    """The candidates of a model with their states and what their gates said, oldest first."""
    known = await shared.models.candidates(model)
    fields = [_candidate(record, report) for record, report in known.records]
    return CandidatesReply(model=model, candidates=fields, damaged=known.damaged)


@router.get("/v1/models/{model}/learned")
async def learned(
    model: str,
    shared: Shared,
    sample: Annotated[str | None, Query(max_length=128, description="Only versions that learned from it.")] = None,
) -> LearnedReply:
    """Which versions learned from labels, and from how many samples; or which learned from one sample."""
    known = await shared.models.learned(model)
    state = await shared.models.state(model)
    chosen = {version: ids for version, ids in known.items() if sample is None or sample in ids}
    versions = [LearnedFields(version=str(version), samples=len(ids)) for version, ids in chosen.items()]
    return LearnedReply(model=model, live=str(state.index.live), versions=versions)


@router.get("/v1/models/{model}/learned/{version}")
async def learned_page(
    model: str,
    version: Annotated[int, PathParameter(ge=1)],
    shared: Shared,
    start: Annotated[int, Query(ge=0, description="Samples to leave out at the start.")] = 0,
    n: Annotated[int, Query(ge=1, le=MAX_SAMPLES)] = MAX_SAMPLES,
) -> LearnedPage:
    """Ids of the samples that a version learned from, in pages; none for a version that learned from no labels."""
    ids = (await shared.models.learned(model)).get(version, [])
    return LearnedPage(model=model, version=str(version), samples=len(ids), sample_ids=ids[start : start + n])


def _candidate(record: CandidateRecord, report: GateReport | None) -> CandidateFields:
    results = report.results if report else ()
    return CandidateFields(
        id=record.id,
        state=record.state,
        passed=record.passed,
        parent=str(record.parent),
        snapshot=record.snapshot,
        made_at=record.made_at,
        changed_at=record.changed_at,
        who=record.who,
        reason=record.reason,
        version=_name(record.version),
        gates=[GateFields(gate=one.gate, outcome=one.outcome, sentence=one.sentence) for one in results],
    )


async def _reply(shared: Resources, model: str, swap: Swap, wait_s: float) -> LiveReply:
    live = str(swap.after.live)
    found = await shared.replicas.wait(model, live, wait_s, shared.draining.is_set)
    return LiveReply(
        model=model,
        live=live,
        previous=_name(swap.after.previous),
        changed=swap.is_change,
        served=_served(shared, model),
        replicas=[
            ReplicaFields(name=one.name, version=one.version, serves=one.serves(live), silent_s=one.silent_s)
            for one in found.replicas
        ],
        complete=found.is_complete(live),
        unseen=found.unseen,
    )


def _probation(probation: Probation | None) -> ProbationFields | None:
    if probation is None:
        return None
    return ProbationFields(
        version=probation.version,
        before=probation.before,
        ends_at=probation.ends_at,
        images=probation.images,
        of=probation.of,
        complaint=probation.complaint,
    )


def _served(shared: Resources, model: str) -> str | None:
    return shared.models.live_version(model) if model in shared.models.names else None


def _fields(change: Change) -> ChangeFields:
    names = {"version": str(change.version), "before": _name(change.before)}
    return ChangeFields(**{**change.model_dump(), **names})


def _name(version: int | None) -> str | None:
    return None if version is None else str(version)
