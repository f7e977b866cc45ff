"""The gate report as a page that stands alone: no script, and pictures inside it."""

import base64
import math
from collections.abc import Iterator, Mapping
from html import escape
from string import Template

from models.contract.gate_report import GateReport, GateResult, Outcome

WORDS: dict[Outcome, str] = {
    "passed": "passed",
    "failed": "failed",
    "too_few_labels": "too few labels",
    "not_asked": "not asked",
}
TITLES = {
    "better.png": "Where the candidate is better",
    "worse.png": "Where the candidate is worse",
    "risk-coverage.png": "Mean loss of the accepted images, on the test split",
}
NOTES = {
    "better.png": "Live above, the candidate below; labels are green.",
    "worse.png": "Live above, the candidate below; labels are green.",
    "risk-coverage.png": "The images with the lowest predicted losses are accepted first. Lower is better.",
}
WIDTH, HEIGHT, EDGE = 160, 22, 6  # of a bar, in pixels

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Candidate $candidate: $verdict</title>
<style>
body { font: 16px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color: #222; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
p { margin: .2rem 0 .8rem; color: #555; }
article { border-top: 1px solid #ddd; padding: .6rem 0; display: grid; gap: .1rem .8rem;
  grid-template-columns: 11rem 7.5rem 1fr; align-items: start; }
article > p { margin: 0; color: #222; }
article svg { grid-column: 3; }
b { font-weight: 600; }
.passed { color: #1a7f37; } .failed { color: #b3261e; } .too_few_labels { color: #9a6700; } .not_asked { color: #777; }
img { max-width: 100%; height: auto; }
@media (max-width: 40rem) {
  article { grid-template-columns: 1fr auto; }
  article > p, article svg { grid-column: 1 / 3; }
}
</style>
</head>
<body>
<h1>Candidate $candidate: <span class="$colour">$verdict</span></h1>
<p>Against live version $parent, at $made_at; attempt $attempt on its judging labels.</p>
$gates
<p>A bar is the interval of a change, its dot the estimate, and the dashed line the limit.</p>
$pictures
</body>
</html>
""")


def page(report: GateReport, pictures: Mapping[str, bytes]) -> str:
    """pictures: PNG files by name, in the order in which they are shown."""
    return PAGE.substitute(
        candidate=escape(report.candidate),
        verdict="passed" if report.passed else _why_not(report),
        colour="passed" if report.passed else "failed",
        parent=report.parent,
        made_at=escape(report.made_at),
        attempt=report.attempt,
        gates="\n".join(_gate(result) for result in report.results),
        pictures="\n".join(_picture(name, png) for name, png in pictures.items()),
    )


def _why_not(report: GateReport) -> str:
    outcomes = {result.outcome for result in report.results}
    return "failed" if "failed" in outcomes else "not enough labels to tell"


def _gate(result: GateResult) -> str:
    lines = (
        f"<b>{escape(result.gate)}</b>",
        f'<span class="{result.outcome}">{WORDS[result.outcome]}</span>',
        f"<p>{escape(result.sentence)}</p>",
        *_bar(result),
    )
    return f"<article>{''.join(lines)}</article>"


def _bar(result: GateResult) -> Iterator[str]:
    """The interval on a scale that shows its limit too; nothing for a gate without numbers."""
    if result.estimate is None:
        return
    ends = [one for one in (result.low, result.high, result.estimate, result.limit) if one is not None]
    low, high = min(ends), max(ends)
    span = high - low if high > low else max(abs(high), 1.0)

    def at(value: float | None, otherwise: float) -> float:
        if value is None:  # the labels do not bound this end
            return otherwise
        return EDGE + (value - low) / span * (WIDTH - 2 * EDGE)

    middle, estimate = HEIGHT / 2, at(result.estimate, math.nan)
    yield f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="interval" class="{result.outcome}">'
    yield (
        f'<line x1="{at(result.low, 0):.1f}" x2="{at(result.high, WIDTH):.1f}" y1="{middle}" y2="{middle}" '
        'stroke="currentColor" stroke-width="4" stroke-opacity=".45" stroke-linecap="round"/>'
    )
    if result.limit is not None:
        limit = at(result.limit, math.nan)
        yield f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="2" y2="{HEIGHT - 2}" stroke="#222" stroke-dasharray="3 2"/>'
    yield f'<circle cx="{estimate:.1f}" cy="{middle}" r="4" fill="currentColor"/></svg>'


def _picture(name: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    title = TITLES[name]
    return f'<h2>{title}</h2><p>{NOTES[name]}</p><img alt="{title}" src="data:image/png;base64,{data}">'
