"""The generated pages of docs/: ``make docs`` writes them, and test_docs.py checks them."""

from pathlib import Path
from textwrap import fill

import yaml
from prometheus_client.metrics import MetricWrapperBase

from foremask.errors import ERROR_TABLE
from foremask.service.observability import metrics
from tests.documentation import reference

DOCS = Path(__file__).parents[2] / "docs"

ERRORS = """# Errors

An answer to a refused request and the status of a failed job have the same error:
[an example](http-api.md#errors).

`code` is the HTTP status, `details` a sentence for people, and `reason` a stable word for programs.
`param` names the field at fault; `limit` and `actual` are the two numbers that clash. An answer
with 429 says in `Retry-After` when to try again.

{entries}"""


def _wrapped(paragraph: str) -> str:
    return fill(paragraph, 100, break_long_words=False, break_on_hyphens=False)


def errors_page() -> str:
    entries = [
        f"## {kind.reason}\n\n{_wrapped(f'**{kind.status}.** {kind.means}')}"
        f"\n\n{_wrapped(kind.remedy)}\n"
        for kind in ERROR_TABLE
    ]
    return ERRORS.format(entries="\n".join(entries))


METRICS = """# Metrics and alerts

Prometheus reads `GET /metrics` of any API process
([why one](adr/0070-counts-meet-in-the-database.md)). A metric is added up from all processes
(*together*: take `max` over instances), counted in the process that answers (*here*: take `sum`),
or read from the database at that moment (*now*: absent while `foremask_database_up` is 0).
[deploy/grafana/foremask.json](../deploy/grafana/foremask.json) shows them on one screen.

| metric | kind | labels | what it counts |
|---|---|---|---|
{metrics}

## Alerts

[deploy/prometheus/alerts.yaml](../deploy/prometheus/alerts.yaml) has the rules; after a change, run
`promtool test rules deploy/prometheus/alerts_test.yaml`.

| alert | what to do |
|---|---|
{alerts}
"""


def all_metrics() -> list[tuple[str, str, tuple[str, ...], str]]:
    """The name, kind, labels and meaning of each metric."""
    found = [(name, "gauge, now", labels, says) for name, (says, labels) in metrics.NOW.items()]
    for each in vars(metrics).values():
        if isinstance(each, MetricWrapperBase):
            (family,) = each.describe()
            ending = "_total" if family.type == "counter" else ""
            place = "together" if each in metrics.SHARED._collector_to_names else "here"
            kind, labels = f"{family.type}, {place}", tuple(each._labelnames)
            found.append((family.name + ending, kind, labels, family.documentation))
    return found


def metrics_page() -> str:
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {says} |"
        for name, kind, labels, says in all_metrics()
    ]
    rules = yaml.safe_load((DOCS.parent / "deploy/prometheus/alerts.yaml").read_text("utf-8"))
    alerts = [
        f"| {rule['alert']} ({rule['labels']['severity']}) | {rule['annotations']['remedy']} |"
        for group in rules["groups"]
        for rule in group["rules"]
    ]
    return METRICS.format(metrics="\n".join(rows), alerts="\n".join(alerts))


GENERATED = {
    "errors.md": errors_page,
    "metrics.md": metrics_page,
    "cli-reference.md": reference.commands_page,
    "python-reference.md": reference.python_page,
    "foremask.1": reference.man_page,
}

if __name__ == "__main__":
    for name, page in GENERATED.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
