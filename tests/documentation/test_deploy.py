"""Checks that the settings, commands, metrics and files that deploy/ names exist."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from foremask.cli.commands import app
from foremask.settings import VARIABLES, read_settings
from tests.documentation.pages import DOCS, all_metrics
from tests.documentation.test_docs import metrics_of
from tests.support.programs import ran

ROOT = DOCS.parent
DEPLOY = ROOT / "deploy"
DASHBOARD = (DEPLOY / "grafana" / "foremask.json").read_text(encoding="utf-8")
PANELS = json.loads(DASHBOARD)["panels"]
SHOWN = [target["expr"] for panel in PANELS for target in panel["targets"]]
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
PROMTOOL = shutil.which("promtool")
LABELS = {name: labels for name, _, labels, _ in all_metrics()}


def test_the_dashboard_is_one_screen_of_every_metric_and_no_other() -> None:
    assert metrics_of(" ".join(SHOWN)) == LABELS.keys()
    assert len({panel["id"] for panel in PANELS}) == len({p["title"] for p in PANELS}) == 14
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    assert max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in PANELS) <= 25


if PROMTOOL is not None:  # Debian's package promtool; CI installs it

    def test_prometheus_takes_the_alerts_and_the_dashboard_and_the_alerts_fire(
        tmp_path: Path,
    ) -> None:
        rules = [{"record": f"r{n}", "expr": expr} for n, expr in enumerate(SHOWN)]
        board = tmp_path / "board.yaml"
        board.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
        tests = DEPLOY / "prometheus" / "alerts_test.yaml"
        for words in (("check", "rules", ALERTS, board), ("test", "rules", tests)):
            asked = ran(str(PROMTOOL), *words, check=False)
            assert asked.returncode == 0, asked.stdout + asked.stderr


def test_every_label_that_is_asked_for_exists() -> None:
    """A misspelt label matches nothing, and an alert on it never fires."""
    text = ALERTS.read_text(encoding="utf-8") + DASHBOARD
    for name, braces in re.findall(r"\b(foremask_[a-z_0-9]+)\{([^}]*)\}", text.replace('\\"', '"')):
        (known,) = (LABELS[each] for each in metrics_of(name))
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces))
        assert labels <= set(known), (name, labels)


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    rules = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"][0]["rules"]
    tested = (DEPLOY / "prometheus/alerts_test.yaml").read_text(encoding="utf-8")
    assert metrics_of(tested + ALERTS.read_text("utf-8")) <= LABELS.keys()
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"].keys() == {"summary", "remedy"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        _quiet, *firing = re.findall(rf"\b{rule['alert']}\b", tested)
        assert firing, rule["alert"]


# No container engine and no systemd run here, so what these files name is looked up.

CONTAINERS = [DEPLOY / "Dockerfile", DEPLOY / "compose.yaml", DEPLOY / "kubernetes.yaml"]
UNITS_OF_SYSTEMD = sorted((DEPLOY / "systemd").glob("*.service"))


def understood(words: list[str]) -> None:
    app.parse_args(words, print_error=False, exit_on_error=False)


@pytest.mark.parametrize("path", [*CONTAINERS, *UNITS_OF_SYSTEMD], ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    names = set(re.findall(r"\bFOREMASK_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert names - {"FOREMASK_TOKEN"} <= set(VARIABLES)


DATABASE = {"FOREMASK_DATABASE_URL": "postgresql://x"}


def of_the_image() -> dict[str, str]:
    slim = (DEPLOY / "Dockerfile").read_text().partition("AS slim")[2].partition("\nFROM ")[0]
    return dict(re.findall(r"\b(FOREMASK_\w+)=(\S+)", slim))


def ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environ.items() if name.startswith("FOREMASK_")}


def test_composes_services_are_confined_and_start_what_there_is() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    filled = re.sub(
        r"\$\{(\w+)(:[?-])?([^}]*)\}", lambda m: m[3] if m[2] == ":-" else f"{m[1].lower()}-x", text
    )
    for place, service in yaml.safe_load(filled)["services"].items():
        assert not service.get("privileged"), place
        if service["image"].startswith("foremask"):
            own = ours(service["environment"])
            settings = read_settings(of_the_image() | DATABASE | own)
            on_gpu = place == "masks-gpu"
            assert str(settings.sandbox) == ("off" if on_gpu else "require")
            assert str(settings.device) == ("cuda" if on_gpu else "auto")
            assert settings.host == "0.0.0.0"  # noqa: S104  # the container's own network
            assert service["cap_drop"] == ["ALL"]
            understood(service["command"])


def test_the_clusters_pods_are_confined_and_start_what_there_is() -> None:
    text = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    config, job, service, *deployments = yaml.safe_load_all(text)
    settings = ours(config["data"])
    url = read_settings(of_the_image() | DATABASE | settings).objects_url
    assert url == settings["FOREMASK_OBJECTS_URL"]
    for each in (job, *deployments):
        template = each["spec"]["template"]
        pod = template["spec"]
        (container,) = pod["containers"]
        understood(container["args"])
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted == {of_the_image()["FOREMASK_DATA_DIR"], "/tmp"}  # noqa: S108
        probed = {probe["httpGet"]["path"] for name, probe in container.items() if "Probe" in name}
        is_served = service["spec"]["selector"] == template["metadata"]["labels"]
        assert probed == ({"/healthz", "/readyz"} if is_served else set())


def test_the_image_is_built_of_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for copied in re.findall(r"^COPY ((?!--)[^\n]+) \S+$", text, re.MULTILINE):
        for each in copied.split():
            assert (ROOT / each).exists(), each
            assert f"!{each}" in sent, each
    for installed in re.findall(r"\buv sync\b.*", text):  # it removes what is not named
        assert "--extra server" in installed
    (version,) = re.findall(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"uv=={version}" in text
    assert text.index("USER 10001") < text.index("ENTRYPOINT")
    understood(json.loads(re.findall(r"^CMD (.+)$", text, re.MULTILINE)[0]))


@pytest.mark.parametrize("unit", UNITS_OF_SYSTEMD, ids=lambda unit: unit.name)
def test_a_unit_starts_what_there_is_and_leaves_the_sandbox_its_calls(unit: Path) -> None:
    lines = re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    reported = dict(lines)
    for name, command in lines:
        if name.startswith("Exec"):
            program, *words = command.replace("%i", "masks").split()
            assert Path(program).name == "foremask"
            understood(words)
    assert "@sandbox" in reported["SystemCallFilter"].split()
    assert "MemoryDenyWriteExecute" not in reported
