"""Pages are fresh, links lead somewhere, examples run, and what deploy/ names exists."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from tools.pages import DOCS, GENERATED, all_metrics

from foremask.cli.commands import app, main
from foremask.service.api.application import HANDLERS
from foremask.settings import NOT_OURS, VARIABLES, read_settings
from tests.service.api.clips import serving
from tests.support import synth
from tests.support.programs import ran

ROOT = DOCS.parent
METRICS = {name for name, *_ in all_metrics()}
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "llms.txt"])
CURRENT = [page for page in PAGES if page.parent.name != "research"]
"""Pages that are kept true. A page of research is dated: what it names may have gone since."""
MARKDOWN = sorted(
    {*PAGES, ROOT / "benchmarks" / "README.md", *(ROOT / ".github").rglob("*.md")}
    - {ROOT / "llms.txt"}
)
NOT_RUN = re.compile(r"<!-- not run by a test: \w[^\n]+ -->\n")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text, marked in all_blocks(page) if kind == language and not marked]


def all_blocks(page: Path) -> list[tuple[str, str, bool]]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(
        r"(<!--[^\n]*-->\n)?^```([a-z]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    return [(each[2], each[3], bool(NOT_RUN.fullmatch(each[1] or ""))) for each in found]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def metrics_of(text: str) -> set[str]:
    names = re.findall(r"\bforemask_[a-z_0-9]+", text)
    return {re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name) for name in names}


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize(("name", "page"), GENERATED.items(), ids=GENERATED)
def test_a_generated_page_is_fresh(name: str, page: Callable[[], str]) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_under_120_columns_and_no_empty_line_tears_a_table(page: Path) -> None:
    assert not [line for line in prose(page).splitlines() if len(line) >= 120 and line[0] != "|"]
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"^\|.*\n\n+\|.*\n(?!\|-)", text, re.MULTILINE)


def test_every_route_is_in_the_table_of_costs() -> None:
    page = (DOCS / "security.md").read_text(encoding="utf-8")
    table = page.partition("## What one caller can cost others")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(/[^`]*)`", table))
    for handler in HANDLERS:
        paths = {re.sub(r":\w+}", "}", path) for path in handler.paths}
        assert paths & listed or paths == {"/docs/{name}"}, paths


def test_every_page_is_in_the_index() -> None:
    index = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "README.md")}
    reported = (ROOT / "llms.txt").read_text(encoding="utf-8")
    for page in set(DOCS.glob("*.md")) - {DOCS / "README.md"}:
        assert page in index, page
        assert f"(docs/{page.name})" in reported, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_code_block_is_run_or_says_why_not(page: Path) -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py")]
    for language, text, marked in all_blocks(page):
        if language == "json":
            json.loads(text)
        if language in ("text", "json") or marked:
            continue
        assert any(page.name in each and f'"{language}"' in each for each in sources), language


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("README.md", marks=pytest.mark.slow),
        pytest.param("docs/cli.md", marks=pytest.mark.slow),
        pytest.param("docs/quickstart.md", marks=pytest.mark.weights),  # with IS-Net
    ],
)
def test_the_lines_that_call_foremask_work(
    name: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = ROOT / name
    if name != "docs/quickstart.md":
        monkeypatch.setenv("FOREMASK_MODEL_FILE", str(model))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREMASK_ALLOW_PRIVATE", "127.0.0.0/8")
    (tmp_path / "footage").mkdir()
    for name in ("clip.mp4", "clip.mov", "footage/clip.mp4"):
        synth.write(tmp_path / name, synth.Spec(pts=(0, 1000, 2000)))  # three looks at most
    text = "".join(blocks(page, "") + blocks(page, "sh"))
    with serving(tmp_path) as site:
        called = [shlex.split(line) for line in re.findall(r"^foremask (.*)", text, re.MULTILINE)]
        assert called
        for words in called:
            words = [word.replace("https://example.com", site) for word in words]
            assert main(words) == 0, (words, capsys.readouterr())


def make(folder: Path, *words: str) -> list[str]:
    shutil.copy(ROOT / "Makefile", folder)
    built = (".venv/.ready", ".venv/.dev", "src/foremask/service/api/site/index.html")
    tell = "import sys; print('foremask', *map(repr, sys.argv[1:]))"
    command = ("make", *(f"-o{each}" for each in built), f'FOREMASK={sys.executable} -c "{tell}"')
    environ = {**os.environ, "MAKEFLAGS": "", "MAKELEVEL": "0"}
    return ran(*command, *words, cwd=folder, env=environ).stdout.splitlines()


@pytest.mark.slow
def test_the_lines_that_call_make_do_what_they_say(tmp_path: Path) -> None:
    pages = (ROOT / "README.md", DOCS / "quickstart.md")
    texts = [text for page in pages for kind in ("", "sh") for text in blocks(page, kind)]
    called = re.findall(r"make (.+)", "".join(texts))
    assert {*called} == {"mask VIDEO=clip.mp4", "run", "test"}
    (tmp_path / "clip.mp4").touch()
    assert make(tmp_path, "mask", "VIDEO=clip.mp4") == ["foremask 'mask' 'clip.mp4'"]
    assert make(tmp_path, "run") == ["foremask 'serve'"]
    assert " -m pytest " in make(tmp_path, "--dry-run", "test")[-1]


@pytest.mark.slow
def test_make_masks_a_file_of_any_name_and_says_at_once_that_it_is_not_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "it's.mp4").touch()
    (reported,) = make(tmp_path, "mask", "VIDEO=it's.mp4", 'OUT=the "mask".mov')
    assert reported == """foremask 'mask' "it's.mp4" '-o' 'the "mask".mov'"""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        make(tmp_path, "mask", "VIDEO=a typo.mp4")
    assert refused.value.stderr.startswith("There is no file a typo.mp4\n")
    assert refused.value.stdout == ""


@pytest.mark.slow
def test_make_keeps_to_the_interpreter_that_the_environment_has(tmp_path: Path) -> None:
    """With another one, `make run` would remove what `make test` had installed."""
    wanted = ("--eval=print: ; @echo $(PYTHON)", "print")
    assert make(tmp_path, *wanted) != [".venv/bin/python"]
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert make(tmp_path, *wanted) == [".venv/bin/python"]
    assert make(tmp_path, *wanted, "PYTHON=another") == ["another"]


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:src|tests|docs|deploy|benchmarks)/[\w./@-]*)`", text):
        assert (ROOT / path).exists() or list(ROOT.glob(f"{path}-*.md")), path
    for name in re.findall(r"python -m\s+(benchmarks[\w.]*)", text):
        assert importlib.util.find_spec(name), name
    assert {*re.findall(r"\bFOREMASK_[A-Z_]*[A-Z]", text)} <= {*VARIABLES, *NOT_OURS}
    if page.parent == DOCS:
        assert metrics_of(text) <= METRICS | {"foremask_mask", "foremask_http_"}
    for _, block, marked in all_blocks(page):
        for line in block.splitlines():
            if marked and line.startswith("foremask "):
                words = line.partition("#")[0].split()[1:]
                app.parse_args(words, print_error=False, exit_on_error=False)


# deploy/

DEPLOY = ROOT / "deploy"
DASHBOARD = (DEPLOY / "grafana" / "foremask.json").read_text(encoding="utf-8")
PANELS = json.loads(DASHBOARD)["panels"]
SHOWN = [target["expr"] for panel in PANELS for target in panel["targets"]]
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
PROMTOOL = shutil.which("promtool")
LABELS = {name: labels for name, _, labels, _ in all_metrics()}


def test_the_dashboard_is_one_screen_of_every_metric_and_no_other() -> None:
    assert metrics_of(" ".join(SHOWN)) == LABELS.keys()
    assert len({panel["id"] for panel in PANELS}) == len({p["title"] for p in PANELS}) == 16
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
    asked = re.findall(r"\b(foremask_[a-z_0-9]+)\{([^}]*)\}", text.replace('\\"', '"'))
    assert asked
    for name, braces in asked:
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
