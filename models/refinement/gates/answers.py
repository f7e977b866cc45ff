"""Turns measured changes into the answers of gates, in sentences that say what was found and what to do."""

import math
from dataclasses import dataclass
from typing import Any

from models.contract.gate_report import GateResult, Outcome
from models.refinement.gates.attempts import LEVEL
from models.refinement.gates.paired import FEWEST_GROUPS, Change, Pairs, more_groups, relative_change

HOPELESS = 20_000  # labels: a change that only more of them would show is taken for none


def finite(**numbers: float | None) -> dict[str, Any]:
    """The numbers that a report can hold; an end that the labels do not bound is null."""
    return {name: None if value is None or not math.isfinite(value) else value for name, value in numbers.items()}


def not_asked(gate: str, why: str) -> GateResult:
    return GateResult(gate=gate, outcome="not_asked", sentence=why)


@dataclass(frozen=True, slots=True)
class Question:
    """Is the relative change of a figure below a limit?"""

    gate: str
    figure: str  # such as "mean loss"
    limit: float
    labels: str  # what rows are called, such as "audit labels"
    against: str = "live"  # the other model
    alpha: float = LEVEL  # of each end of the interval

    @property
    def asked(self) -> str:
        return "less than 0" if self.limit == 0 else f"at most {percent(self.limit)}"


def answer(question: Question, pairs: Pairs) -> GateResult:
    """Passed if the upper bound of the relative change lies below the limit, failed if the estimate does not.

    Otherwise, and with fewer than `FEWEST_GROUPS` groups, the labels are too few.
    """
    if pairs.group_count < FEWEST_GROUPS:
        return _too_few_groups(question, pairs)
    change = relative_change(pairs, question.alpha)
    more = more_groups(pairs, question.limit, question.alpha) * len(pairs) / pairs.group_count
    outcome, needed = _outcome(change, question.limit, more)
    return GateResult(
        gate=question.gate,
        outcome=outcome,
        sentence=f"{_found(question, change, len(pairs))}{_verdict(question, change, outcome, needed)}",
        limit=question.limit,
        labels=len(pairs),
        alpha=question.alpha,
        needed=needed,
        **finite(estimate=change.estimate, low=change.low, high=change.high),
    )


def percent(share: float) -> str:
    """A signed change in percent, for a sentence."""
    if math.isinf(share):
        return "without bound"
    return f"{100 * share:+.1f} %"


def rounded_up(labels: float) -> int:
    """A number of labels to collect: two digits are enough of an estimate."""
    if labels <= 0:
        return 0
    step: int = 10 ** max(0, math.floor(math.log10(labels)) - 1)
    return math.ceil(labels / step) * step


def _too_few_groups(question: Question, pairs: Pairs) -> GateResult:
    groups, count = pairs.group_count, len(pairs)
    needed = rounded_up((FEWEST_GROUPS - groups) * max(1.0, count / max(groups, 1)))
    of_groups = "" if groups == count else f" of {groups} independent groups"
    sentence = (
        f"There are {count} {question.labels}{of_groups}, and at least {FEWEST_GROUPS} are needed: this gate needs "
        f"about {needed} more {question.labels}{', from other hours or cameras' if of_groups else ''}."
    )
    return GateResult(
        gate=question.gate,
        outcome="too_few_labels",
        sentence=sentence,
        limit=question.limit,
        labels=count,
        alpha=question.alpha,
        needed=needed,
    )


def _outcome(change: Change, limit: float, more: float) -> tuple[Outcome, int | None]:
    if change.high < limit:
        return "passed", None
    if change.estimate >= limit or more > HOPELESS:
        return "failed", None
    return "too_few_labels", max(10, rounded_up(more))


def _found(question: Question, change: Change, labels: int) -> str:
    interval = f"{percent(change.low)} to {percent(change.high)}, {labels} {question.labels}"
    return f"The {question.figure} changes by {percent(change.estimate)} against {question.against} ({interval})"


def _verdict(question: Question, change: Change, outcome: Outcome, needed: int | None) -> str:
    if outcome == "passed":
        return f": {question.asked}, as asked."
    if outcome == "too_few_labels":
        return f". Whether it is {question.asked} needs about {needed} more {question.labels}."
    nothing = "nothing changed, and " if change.low == change.high == 0 else ""
    return f": {nothing}{question.asked} is asked of the whole interval."
