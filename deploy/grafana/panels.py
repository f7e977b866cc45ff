"""The parts of the dashboards: the few kinds of panels that they use, rows, and a board.

Only this module imports grafana-foundation-sdk. Boards are in Grafana's classic JSON, the only form in which every
version of Grafana can load files. The SDK warns at its import that this form is deprecated.

In an expression, `INSTANCE` stands for the labels that select the chosen replicas, `MODEL` for those that select the
chosen replicas and models, and `RATE` for the window of a rate.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common as parts
    from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, statetimeline, table, timeseries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common
    from grafana_foundation_sdk.models import dashboard as models
    from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = common.DataSourceRef("prometheus", "${datasource}")
TOKENS = {
    "INSTANCE": 'instance=~"$instance"',
    "MODEL": 'instance=~"$instance", model=~"$model"',
    "RATE": "$__rate_interval",
}
WIDTH = 24  # of the grid
GREEN, YELLOW, RED = "green", "yellow", "red"

Panel = timeseries.Panel | stat.Panel | heatmap.Panel | statetimeline.Panel | table.Panel
P = TypeVar("P", bound=Panel)


class Query(NamedTuple):
    expression: str
    legend: str = ""


class Row(NamedTuple):
    title: str
    panels: Sequence[Panel]


def lines(
    title: str, text: str, unit: str, *queries: Query, is_stacked: bool = False, is_from_zero: bool = True
) -> timeseries.Panel:
    panel = timeseries.Panel().unit(unit).line_width(1).fill_opacity(30 if is_stacked else 5)
    panel = panel.show_points(common.VisibilityMode.NEVER).span_nulls(300_000)
    panel = panel.legend(
        parts.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    panel = panel.tooltip(
        parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    if is_from_zero:
        panel = panel.axis_soft_min(0)
    if is_stacked:
        panel = panel.stacking(parts.StackingConfig().mode(common.StackingMode.NORMAL))
    return _asking(panel.span(8).height(8), title, text, queries)


def number(
    title: str, text: str, unit: str, expression: str, *, steps: Mapping[float, str] | None = None
) -> stat.Panel:
    """steps: the colour from each value on. Below the first it is green."""
    panel = stat.Panel().unit(unit).graph_mode(common.BigValueGraphMode.AREA)
    panel = panel.reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]))
    panel = panel.thresholds(_thresholds(steps or {})).color_mode(common.BigValueColorMode.VALUE)
    return _asking(panel.span(4).height(4), title, text, [Query(expression)])


def cells(title: str, text: str, expression: str) -> heatmap.Panel:
    """A histogram over time. expression: the rates of its buckets, by `le`."""
    panel = heatmap.Panel().calculate(False).unit("short").cell_gap(1)
    panel = panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
    return _asking(panel.span(12).height(8), title, text, [Query(expression, "{{le}}")], PromQueryFormat.HEATMAP)


def states(title: str, text: str, names: Mapping[int, tuple[str, str]], *queries: Query) -> statetimeline.Panel:
    """names: the name and the colour of each value."""
    results = {str(value): models.ValueMappingResult(name, color) for value, (name, color) in names.items()}
    panel = statetimeline.Panel().mappings([models.ValueMap(results)]).merge_values(True)
    panel = panel.show_value(common.VisibilityMode.AUTO).row_height(0.8).fill_opacity(80)
    return _asking(panel.span(WIDTH).height(5), title, text, queries)


def listing(title: str, text: str, expression: str) -> table.Panel:
    """The labels of the series, one series per row."""
    hidden = {"Time": True, "Value": True}
    panel = table.Panel().with_transformation(
        models.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
    )
    return _asking(panel.span(12).height(8), title, text, [Query(expression)], PromQueryFormat.TABLE)


def board(uid: str, title: str, text: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The dashboard as JSON for Grafana. Each panel has an id of its own."""
    built = dashboard.Dashboard(title).uid(uid).description(text).tags(["losscast"]).readonly()
    built = built.time("now-6h", "now").refresh("30s").tooltip(models.DashboardCursorSync.CROSSHAIR)
    built = built.link(_to_the_others()).variables([_source(), *map(_variable, ("instance", "model"))])
    identity = 0
    for row in rows:
        built = built.with_row(dashboard.Row(row.title).id(identity := identity + 1))
        for panel in row.panels:
            built = built.with_panel(panel.id(identity := identity + 1))
    fields: dict[str, Any] = json.loads(json.dumps(built.build(), cls=JSONEncoder))
    for variable in fields["templating"]["list"]:
        variable.setdefault("options", [])
    for link in fields["links"]:
        del link["placement"]  # the SDK's default hides it in a menu
    return fields


def with_band(panel: timeseries.Panel, upper: str, lower: str) -> timeseries.Panel:
    """Fills the area between two lines of a panel."""
    quiet = [models.DynamicConfigValue("custom.lineWidth", 0)]
    filled = [
        models.DynamicConfigValue("custom.fillBelowTo", lower),
        models.DynamicConfigValue("custom.fillOpacity", 20),
    ]
    return panel.override_by_name(upper, [*quiet, *filled]).override_by_name(lower, quiet)


def dashed(panel: timeseries.Panel, name: str) -> timeseries.Panel:
    style = {"fill": "dash", "dash": [8, 8]}
    return panel.override_by_name(name, [models.DynamicConfigValue("custom.lineStyle", style)])


def _asking(
    panel: P, title: str, text: str, queries: Sequence[Query], form: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> P:
    panel.title(title).description(text).datasource(SOURCE)
    for index, query in enumerate(queries):
        panel.with_target(_target(query, chr(ord("A") + index), form))
    return panel


def _target(query: Query, ref_id: str, form: PromQueryFormat) -> prometheus.Dataquery:
    expression = query.expression
    for token, meaning in TOKENS.items():
        expression = expression.replace(token, meaning)
    target = prometheus.Dataquery().datasource(SOURCE).ref_id(ref_id).expr(expression).format(form)
    if query.legend:
        target = target.legend_format(query.legend)
    return target.instant() if form is PromQueryFormat.TABLE else target.range()


def _thresholds(steps: Mapping[float, str]) -> dashboard.ThresholdsConfig:
    limits = [models.Threshold(value, color) for value, color in sorted(steps.items())]
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(None, GREEN), *limits])
    )


def _source() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _variable(name: str) -> dashboard.QueryVariable:
    known = f"label_values(losscast_model_info, {name})"
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"query": known, "refId": f"losscast-{name}"})
        .definition(known)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
        .options([])
    )


def _to_the_others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Losscast").type(models.DashboardLinkType.DASHBOARDS).tags(["losscast"])
    return link.include_vars(True).keep_time(True)
