import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.service.api.conftest import Running
from tests.service.api.worker import completed
from tests.support.javascript import NODE
from tests.support.programs import ran, shell

DOCS = Path(__file__).parents[3] / "docs"
TOKEN, JOB, AT = "test-token-abc123", "req-9f8e7d6c", "1723800000"
BODY = '{"request_id":"req-9f8e7d6c","status":"COMPLETED"}'
SIGNATURE = "v1=L49e/+aGg8Xr6F7PT9+bYWJ4ADPN73Pu5ooGltV5MUs="
HEADERS = {
    "Bria-Webhook-Id": JOB,
    "Bria-Webhook-Timestamp": AT,
    "Bria-Webhook-Signature": f"v1=AAAA, {SIGNATURE}",
}

NOW = int(AT)
ASKED: list[tuple[Any, ...]] = [(BODY, TOKEN, NOW + 299), (BODY, TOKEN, NOW + 301), (BODY, TOKEN)]
ASKED += [(BODY + " ", TOKEN, NOW), (BODY, "another", NOW)]
GENUINE = [True, False, False, False, False]


def code(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


STARTS_JOB = ("segment/", "edit/", "foreground_mask", "convert", "refine")
"""In the paths of calls that start a job."""


def test_every_curl_line_works(service: Running, good: str, drawn: Path, tmp_path: Path) -> None:
    made = completed(service, good, drawn / "good.mp4")
    shutil.copy(drawn / "good.mp4", tmp_path / "clip.mp4")
    first, *rest = code("http-api.md", "sh")
    names = re.findall(r"^(\w+)=", first, re.MULTILINE)
    assert names == ["API", "TOKEN", "VIDEO"]
    lines = [line for block in rest for line in block.splitlines()]
    numbered = [
        line + (f' -w "\\n%{{http_code}} {number}\\n"' if line.startswith("curl") else "")
        for number, line in enumerate(lines)
    ]
    environ = {"API": service.url, "TOKEN": service.token, "VIDEO": good}
    environ |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "DONE": made["request_id"]}
    shown = shell("\n".join(numbered), tmp_path, environ)
    answers = {int(n): int(c) for c, n in re.findall(r"^(\d{3}) (\d+)$", shown, re.MULTILINE)}
    assert answers.keys() == {at for at, line in enumerate(lines) if line.startswith("curl")}
    for number, line in ((at, lines[at]) for at in answers):
        expected = (
            404 if "no-such" in line
            else 206 if " -r " in line
            else 202 if any(f"/{word}" in line for word in STARTS_JOB)
            else 204 if " -F " in line
            else 200
        )  # fmt: skip
        assert (answers[number], line) == (expected, line)
    assert (tmp_path / "mask.mp4").read_bytes() == (drawn / "good.mp4").read_bytes()
    assert (tmp_path / "part.bin").stat().st_size == 100


def test_the_python_verification_takes_the_vector_of_the_page() -> None:
    page = (DOCS / "webhooks.md").read_text(encoding="utf-8")
    assert all(f"`{each}`" in page for each in (TOKEN, JOB, AT, BODY, SIGNATURE))
    space: dict[str, Callable[..., bool]] = {}
    source, _receiver = code("webhooks.md", "python")
    exec(source, space)  # noqa: S102  # it is the documentation that is tested
    is_genuine = space["is_genuine"]
    assert [is_genuine(body.encode(), HEADERS, *more) for body, *more in ASKED] == GENUINE


def test_the_javascript_verification_works(tmp_path: Path) -> None:
    (source,) = code("webhooks.md", "javascript")
    lowered = json.dumps({name.lower(): value for name, value in HEADERS.items()})
    (tmp_path / "webhook.mjs").write_text(source)
    (tmp_path / "try.mjs").write_text(
        f"""import {{ isGenuine }} from "./webhook.mjs";
        console.log(JSON.stringify({json.dumps(ASKED)}.map(([body, ...more]) =>
          isGenuine(Buffer.from(body), {lowered}, ...more))));"""
    )
    assert json.loads(ran(NODE, tmp_path / "try.mjs").stdout) == GENUINE
