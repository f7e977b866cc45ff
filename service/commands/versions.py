"""`losscast promote`, `rollback` and `history`: which version of a model is live, from the command line."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.client import DEFAULT_URL, LosscastClient
from service.commands.console import ApiKey, AsJson, Url, connected, fail, print_json, say, table
from service.commands.learned import show_learned
from service.schemas.versions import (
    MAX_CHANGES,
    MAX_WAIT_S,
    WAIT_S,
    CandidateFields,
    ChangeFields,
    LiveReply,
    ProbationFields,
    ReplicaFields,
)

SILENT_S = 5.0  # a replica speaks every two seconds

BAD = ("failed", "too_few_labels")
ModelName = Annotated[str, typer.Argument(help="Name of the model.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the history.")]
Who = Annotated[str, typer.Option(envvar="LOSSCAST_WHO", help="Who asks for it; it is kept in the history.")]
ExpectedLive = Annotated[
    int | None,
    typer.Option(min=1, help="Refuse if another version is live; default: the version that the store says is live."),
]
WaitS = Annotated[
    float, typer.Option(min=0, max=MAX_WAIT_S, help="Seconds to wait at most until every replica serves the version.")
]


def promote(
    model: ModelName,
    target: Annotated[str, typer.Argument(help="A version in the service's bundle store, or the id of a candidate.")],
    reason: Reason,
    override: Annotated[bool, typer.Option("--override", help="Promote it even if its gates did not pass.")] = False,
    expected_live: ExpectedLive = None,
    who: Who = "unknown",
    wait_s: WaitS = WAIT_S,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a published version, or a candidate, the live one. The version that was live becomes the previous one.

    It exits with 1 if a replica does not serve the version in time; the change stands all the same.

    Example: losscast promote pose 4 --reason "fewer lossy knees" --expected-live 3

    Example: losscast promote pose 20261201T101500-3fa9c1 --reason "its gates passed"
    """
    version, candidate = (target, None) if target.isdecimal() else (None, target)
    with connected(url, api_key) as client:
        expected = _expected(client, model, expected_live)
        reply = client.promote(
            model,
            version,
            candidate=candidate,
            override=override,
            expected_live=expected,
            reason=reason,
            who=who,
            wait_s=wait_s,
        )
    _show(reply, as_json=as_json)


def rollback(
    model: ModelName,
    reason: Reason,
    to: Annotated[int | None, typer.Option(min=1, help="The version to go back to; default: the previous one.")] = None,
    expected_live: ExpectedLive = None,
    who: Who = "unknown",
    wait_s: WaitS = WAIT_S,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make the previous version live again. Right after a rollback, a second one needs --to.

    It waits for the other replicas as promote does.

    Example: losscast rollback pose --reason "flags twice as many images"

    Example: losscast rollback pose --to 2 --reason "3 has the fault too"
    """
    with connected(url, api_key) as client:
        expected = _expected(client, model, expected_live)
        reply = client.rollback(model, expected_live=expected, reason=reason, to=to, who=who, wait_s=wait_s)
    _show(reply, as_json=as_json)


def history(
    model: ModelName,
    n: Annotated[int, typer.Option("-n", min=1, max=MAX_CHANGES, help="How many changes.")] = 20,
    erased: Annotated[
        bool, typer.Option("--erased", help="Show which versions learned from samples that are erased by now.")
    ] = False,
    sample: Annotated[str | None, typer.Option(help="Show which versions learned from this sample.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show which versions were live: since when, who changed it, and why. The newest change comes first.

    With --erased or --sample it shows which versions learned from samples instead: erasing a sample does not
    make a version forget it.

    Example: losscast history pose -n 5

    Example: losscast history pose --json | jq .reason

    Example: losscast history pose --erased
    """
    if erased or sample is not None:
        with connected(url, api_key) as client:
            show_learned(client, model, sample, as_json=as_json)
        return
    with connected(url, api_key) as client:
        known = client.history(model, n)
    if as_json:
        for change in known.changes:
            print_json(change.model_dump())
        return
    previous = f", {known.previous} is the previous one" if known.previous else ""
    say(f"{model}: version {known.live} is live{previous}. This replica serves {known.served or 'none'}.")
    if known.probation:
        say(_probation(known.probation))
    if known.changes:
        Console().print(_change_table(known.changes))
    else:
        say("No change has been recorded yet.")


def candidates(model: ModelName, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the candidates of a model: their states, what their gates said, and why. The oldest comes first.

    Example: losscast candidates pose

    Example: losscast candidates pose --json | jq '.gates[].sentence'
    """
    with connected(url, api_key) as client:
        known = client.candidates(model)
    if as_json:
        for one in known.candidates:
            print_json(one.model_dump())
    elif known.candidates:
        rows = table("id", "state", "gates", "parent", "version", "changed (UTC)", "who", "reason")
        rows.columns[0].no_wrap = True  # an id is there to be copied
        for one in known.candidates:
            when = one.changed_at[:19].replace("T", " ")
            state = one.state.replace("_", " ")
            rows.add_row(one.id, state, _gates(one), one.parent, one.version or "", when, one.who, one.reason)
        Console().print(rows)
    elif not known.damaged:
        say(f"{model} has no candidates: `losscast refine {model}` makes one.")
    for line in known.damaged:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"losscast: {line}", markup=False, style="red")


def _probation(one: ProbationFields) -> str:
    until = datetime.fromtimestamp(one.ends_at, UTC)
    if one.complaint:
        return f"It should go back to version {one.before} and cannot: {one.complaint}."
    seen = f"{one.images} of {one.of} images so far, until {until:%H:%M} UTC"
    return f"It is on probation ({seen}): if it misbehaves, version {one.before} comes back."


def _expected(client: LosscastClient, model: str, given: int | None) -> int | str:
    return given or client.history(model, n=1).live


def _gates(one: CandidateFields) -> str:
    """In a cell: whether it passed, and the gates that it did not pass."""
    bad = [f"{gate.gate} ({gate.outcome.replace('_', ' ')})" for gate in one.gates if gate.outcome in BAD]
    passed = {True: "passed", False: "not passed", None: ""}[one.passed]
    return f"{passed}: {', '.join(bad)}" if bad else passed


def _show(reply: LiveReply, *, as_json: bool) -> None:
    if as_json:
        print_json(reply.model_dump())
        if not reply.complete:
            raise typer.Exit(1)
        return
    state = "is live" if reply.changed else "is live already; nothing was changed"
    previous = f"; {reply.previous} is the previous version" if reply.previous else ""
    say(f"{reply.model}: version {reply.live} {state}{previous}.")
    if not reply.complete:
        fail(f"the change stands, but {_missing(reply)}")
    count = len(reply.replicas)
    say("Served by this replica, the only one known." if count == 1 else f"Served by {count} replicas.")


def _missing(reply: LiveReply) -> str:
    """Which replicas do not serve the live version, and why, in words."""
    behind = [
        f"{one.name} does not serve version {reply.live}: {_why(one, reply.live)}"
        for one in reply.replicas
        if not one.serves
    ]
    if reply.unseen:
        behind.append(reply.unseen)
    return "; ".join(behind)


def _why(replica: ReplicaFields, live: str) -> str:
    if replica.version == live or replica.silent_s > SILENT_S:
        return f"it has said nothing for {replica.silent_s:.0f} s"
    return f"it serves {f'version {replica.version}' if replica.version else 'none'}"


def _change_table(changes: Sequence[ChangeFields]) -> Table:
    refined = any(change.candidate for change in changes)
    rows = table("when (UTC)", "event", "version", "before", *(["candidate"] if refined else []), "who", "reason")
    for change in changes:
        when = change.at[:19].replace("T", " ")
        of = [change.candidate or ""] if refined else []
        event = change.event.replace("_", " ")
        rows.add_row(when, event, change.version, change.before or "", *of, change.who, change.reason)
    return rows
