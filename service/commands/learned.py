"""Which versions learned from a sample, or from samples erased since: `losscast history --sample` and `--erased`."""

from collections.abc import Iterator

from service.client import LosscastClient
from service.commands.console import label_progress, print_json, say
from service.schemas.versions import MAX_SAMPLES, LearnedFields

NAMED = 10  # ids in a line


def show_learned(client: LosscastClient, model: str, sample: str | None, *, as_json: bool) -> None:
    """sample: None: all samples whose label is gone. Raises ClientError."""
    known = client.learned(model, sample)
    if sample is not None:
        _show_sample(model, sample, known.versions, known.live, as_json=as_json)
        return
    there = _labelled(client, model) if known.versions else set[str]()
    for one in known.versions:
        gone = [sample_id for sample_id in _learned(client, model, one) if sample_id not in there]
        if as_json:
            print_json({"version": one.version, "live": one.version == known.live, "erased": gone})
        else:
            say(f"{_name(one, known.live)} learned from {one.samples} samples; {_gone(gone)}")
    if not known.versions and not as_json:
        say(f"No version of {model} has learned from labels.")


def _show_sample(model: str, sample: str, versions: list[LearnedFields], live: str, *, as_json: bool) -> None:
    if as_json:
        for one in versions:
            print_json({"version": one.version, "live": one.version == live, "sample": sample})
    elif versions:
        say(f"{sample} taught {', '.join(_name(one, live).lower() for one in versions)} of {model}.")
    else:
        say(f"No version of {model} has learned from {sample}.")


def _labelled(client: LosscastClient, model: str) -> set[str]:
    """Ids of all samples that have a label now. A label stays until its sample is erased."""
    there = set[str]()
    cursor = ""
    with label_progress(client, model) as advance:
        while (page := client.label_page(cursor, model=model)).labels:
            there.update(line.sample_id for line in page.labels)
            advance(len(page.labels))
            cursor = page.cursor
    return there


def _learned(client: LosscastClient, model: str, one: LearnedFields) -> Iterator[str]:
    for start in range(0, one.samples, MAX_SAMPLES):
        yield from client.learned_page(model, one.version, start).sample_ids


def _name(one: LearnedFields, live: str) -> str:
    return f"Version {one.version}{' (live)' if one.version == live else ''}"


def _gone(ids: list[str]) -> str:
    if not ids:
        return "none of them was erased."
    named = ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more; --json names all" if len(ids) > NAMED else "")
    return f"{len(ids)} of them {'were' if len(ids) > 1 else 'was'} erased since: {named}."
