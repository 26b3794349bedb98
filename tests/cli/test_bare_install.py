"""A wheel without extras: what the pages say is understood, and a slip is one sentence."""

import json
import re
import shlex
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import foremask
from foremask.cli.commands import SERVICE
from foremask.cli.exits import Exit
from tests.documentation.test_docs import PAGES, all_blocks
from tests.support.programs import ran

BARE = """import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
from foremask.cli import standard_streams
from foremask.cli.commands import app, main
for words in json.loads(sys.argv[2]):
    app.parse_args(standard_streams.named(words), print_error=False, exit_on_error=False)
for words in json.loads(sys.argv[3]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = int(main(words))
    print(json.dumps([code, said.getvalue()]))
"""


def lines() -> list[list[str]]:
    texts = [
        text.replace("\\\n", " ")
        for page in PAGES
        for language, text, _ in all_blocks(page)
        if language in ("", "sh")
    ]
    found = re.findall(r"(?:^|\| |bin/)foremask ([^|;&>#\n]+)", "\n".join(texts), re.MULTILINE)
    return [shlex.split(line) for line in dict.fromkeys(found)]


def install(folder: Path) -> None:
    """Link what a wheel without extras brings into ``folder``."""
    brought, waiting = set[str](), ["foremask"]
    while waiting:
        name = waiting.pop()
        if name in brought:
            continue
        brought.add(name)
        with suppress(PackageNotFoundError):  # openvino-telemetry: see pyproject.toml
            installed = distribution(name)
            for top in {each.parts[0] for each in installed.files or ()} - {"..", "__pycache__"}:
                (folder / top).symlink_to(str(installed.locate_file(top)))
            needed = [Requirement(each) for each in installed.requires or ()]
            waiting += [
                each.name
                for each in needed
                if not each.marker or each.marker.evaluate({"extra": ""})
            ]
    (folder / "foremask").symlink_to(Path(foremask.__file__).parent)


def slips(words: list[str]) -> list[list[str]]:
    """A letter of the command is lost, or of an option; an option that nobody has."""
    command, *rest = words
    shortened = [
        [*words[:at], word[:-2] + word[-1], *words[at + 1 :]]
        for at, word in enumerate(words)
        if re.fullmatch(r"--[a-z-]{4,}", word)
    ]
    return [[command[0] + command[2:], *rest], [*words, "--nonsense"], *shortened]


@pytest.mark.slow
def test_every_line_of_the_pages_is_understood_and_every_slip_is_one_sentence(
    tmp_path: Path,
) -> None:
    install(tmp_path)
    right = [words for words in lines() if words[0] not in SERVICE]
    service = [words for words in lines() if words[0] in SERVICE]
    refused = service + [slip for words in lines() for slip in slips(words)]
    assert len(right) > 30
    asked = tmp_path, json.dumps(right), json.dumps(refused)
    done = ran(sys.executable, "-S", "-c", BARE, *asked, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for words, (code, said) in zip(refused, answers, strict=True):
        assert code == Exit.USAGE, (words, said)
        assert re.fullmatch(r"error: [^\n]+ \[(usage|extra_missing)\]\n", said), (words, said)
    assert all(said.endswith("[extra_missing]\n") for _, said in answers[: len(service)])
