"""The generated pages of docs/: ``make docs`` writes them, and test_docs.py checks them."""

import enum
import inspect
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, fill

import yaml
from prometheus_client.metrics import MetricWrapperBase

import foremask
from foremask.cli.commands import app
from foremask.errors import ERROR_TABLE
from foremask.service.observability import metrics

DOCS = Path(__file__).parents[1] / "docs"

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
        f"## {each.name}\n\n{_wrapped(f'**{each.status}.** {each.means}')}"
        f"\n\n{_wrapped(each.remedy)}\n"
        for each in ERROR_TABLE
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


COMMANDS = """# Commands

Every command and option, as `foremask COMMAND --help` shows them. [The command line](cli.md)
explains how they work together, and has the exit codes.

"""
PYTHON = """# Python reference

Every public name of the package, with its docstring. [The Python guide](python.md) has recipes that
run.

"""
MAN = r""".TH FOREMASK 1 "" "foremask" "User Commands"
.SH NAME
foremask \- foreground masks for video: white is the foreground
"""
_WIDTH = 100
_ENTRY = re.compile(r"^\* .+", re.MULTILINE)


def commands_page() -> str:
    text = app.generate_docs()
    text = re.sub(r"^```console\n.*\n```\n|^\*\*\w+\*\*:\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^((?:foremask .*\n)+)", r"```text\n\1```\n", text, flags=re.MULTILINE)
    text = re.sub(r" *\*\*\[required\]\*\*| *\*\[default: False\]\*", "", text)
    text = re.sub(r"\*\[(choices|default): ([^\]]*)\]\*", r"(\1: \2)", text)
    _, *parts = re.split(r"^##+ (foremask .+)\n", text, flags=re.MULTILINE)
    counts = Counter(_ENTRY.findall(text))
    shared = [each for each in counts if counts[each] > 1 and each.startswith("* `--")]
    page = [COMMANDS + "## Options of several commands\n", *map(_entry, shared)]
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        entries = _ENTRY.findall(body)
        page += [f"\n## {name}\n", _ENTRY.sub("", body).strip(), ""]
        page += [_entry(each) for each in entries if each not in shared]
        if also := ", ".join(
            each[2 : each.index("`", 3) + 1] for each in shared if each in entries
        ):
            page += ["", fill(f"And {also}.", _WIDTH, break_on_hyphens=False)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(page)).strip() + "\n"


def _entry(line: str) -> str:
    text = line.replace("<", "&lt;")
    return fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def man_page() -> str:
    text = commands_page().split("\n", 5)[5].replace("\\", r"\e").replace("-", r"\-")
    for markdown, troff in (
        (r"^(?!#|\* |`{3}|$) *", r"\\&"),
        (r"^```text$", ".nf"),
        (r"^```$", ".fi"),
        (r"^$", ".PP"),
        (r"^\* (.*?): +", r".TP\n\\fB\1\\fR\n\\&"),
        (r"`|\[([^]]*)\]\([^)]*\)", r"\1"),
        ("&lt;", "<"),
    ):
        text = re.sub(markdown, troff, text.strip(), flags=re.MULTILINE)
    text = re.sub("^## (.*)", lambda title: f".SH {title[1].upper()}", text, flags=re.MULTILINE)
    return MAN + text + "\n"


def python_page() -> str:
    public = {name: getattr(foremask, name) for name in dir(foremask) if name[0] != "_"}
    classes = {name: each for name, each in public.items() if inspect.isclass(each)}
    errors = [name for name, kind in classes.items() if issubclass(kind, Exception)]
    parts = ["## Functions\n"]
    parts += [
        f"### {name}\n\n{_signature(name, each)}\n\n{_prose(each)}\n"
        for name, each in public.items()
        if inspect.isfunction(each)
    ]
    parts += ["## Classes\n", *(_class(name) for name in classes if name not in errors)]
    kinds = ", ".join(f"`{name}`" for name in errors if name != "ForemaskError")
    parts += ["## Errors\n", _class("ForemaskError")]
    parts.append(fill(f"Of its kinds, {kinds} are public: [what each means](errors.md).", _WIDTH))
    return PYTHON + "\n".join(parts).rstrip() + "\n"


def _class(name: str) -> str:
    kind = getattr(foremask, name)
    if issubclass(kind, enum.Enum):
        values = ", ".join(f"`{each.value}`" for each in kind)
        return f"### {name}\n\n{_prose(kind)}\n\n{fill(f'Values: {values}.', _WIDTH)}\n"
    signature = "" if issubclass(kind, Exception | dict) else f"{_signature(name, kind)}\n\n"
    text = f"### {name}\n\n{signature}{_prose(kind)}\n"
    for member, value in vars(kind).items():
        is_shown = inspect.isfunction(value) or isinstance(value, property | classmethod)
        if is_shown and not member.startswith("_") and (doc := inspect.getdoc(value)):
            line = f"`{name}.{member}`: {_code(doc)}"
            text += f"\n{fill(line, _WIDTH, break_on_hyphens=False)}\n"
    return text


def _signature(name: str, called: Callable[..., object]) -> str:
    """The call as a block of code; for a class of results, only the names of its fields."""
    found = inspect.signature(called)
    wanted = [each for each in found.parameters.values() if each.name != "self"]
    if [each.default for each in wanted].count(inspect.Parameter.empty) > 4:
        call = f"({', '.join(each.name for each in wanted)})"
    else:
        shown = [
            each.replace(annotation=each.empty)  # the default shows the type
            if each.default is not each.empty or each.kind is each.VAR_KEYWORD
            else each
            for each in wanted
        ]
        call = str(found.replace(parameters=shown)).removesuffix(" -> None")
        call = re.sub(r"<([\w.]+): [^>]*>", r"\1", call)  # a member of an enum
        call = re.sub(r"=(\w+)\(.+?\)", r"=\1()", call)
        call = re.sub(r"Annotated\[(\w+), .*?\)\]", r"\1", call)
        call = re.sub(r"\b(?:foremask|numpy|collections|typing|pathlib)(?:\.\w+)*\.", "", call)
    return f"```text\n{fill(name + call, 90, subsequent_indent='    ')}\n```"


def _prose(documented: object) -> str:
    paragraphs = dedent(inspect.getdoc(documented) or "").split("\n\n")
    return "\n\n".join(fill(_code(each), _WIDTH, break_on_hyphens=False) for each in paragraphs)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


GENERATED = {
    "errors.md": errors_page,
    "metrics.md": metrics_page,
    "cli-reference.md": commands_page,
    "python-reference.md": python_page,
    "foremask.1": man_page,
}

if __name__ == "__main__":
    for name, page in GENERATED.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
