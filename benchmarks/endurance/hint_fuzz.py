"""Hints of every kind of nonsense, and nearly right ones, against a running service.

``python -m benchmarks.endurance.hint_fuzz URL TOKEN [VIDEO_URL] [REQUESTS]`` sends 2000 calls: the
preview of a picture with hints, masks with hints and with key points, and refinements. No answer
may be a 500 or hold a trace. Give a token with high limits, and the URL of a clip that the service
can read, else nothing gets past the clip.
"""

import base64
import collections
import random
import sys
from typing import Any

import cv2
import httpx
import numpy as np

REQUESTS = 2000
SEED = 19
WIDTH, HEIGHT = 96, 64
JOB = "00000000-0000-4000-8000-000000000000"
NUMBERS: list[Any] = [0, 1, 5, 47, 48, 63, 64, 95, 96, -1, 0.5, 1e308, -1e308, 10**40, 2**63]
ODD: list[Any] = [None, True, "", "5", "NaN", [], {}, [0], {"x": 0}, "\0", "é" * 300]
NAMES = ("x", "y", "width", "height", "frame", "time_s", "negative", "png", "type", "unknown")


def picture(rng: random.Random) -> str:
    """A small PNG in base64, with something red in it."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    cv2.circle(pixels, (rng.randrange(WIDTH), rng.randrange(HEIGHT)), 14, (30, 30, 220), -1)
    return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()


def hint(rng: random.Random) -> Any:  # noqa: ANN401
    """A hint that is right in most of its fields, or something else altogether."""
    if rng.random() < 0.1:
        return rng.choice(ODD)
    kind = rng.choice(["point", "point", "box", "paint"])
    made: dict[str, Any] = {"type": kind}
    if kind != "paint":
        made |= {"x": rng.randrange(WIDTH), "y": rng.randrange(HEIGHT)}
    if kind == "box":
        made |= {"width": rng.randint(1, WIDTH), "height": rng.randint(1, HEIGHT)}
    if kind == "paint":
        made["png"] = rng.choice([picture(rng), picture(rng)[:80], "AAAA", ""])
    if rng.random() < 0.3:
        made["negative"] = True
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        made[rng.choice(NAMES)] = rng.choice(NUMBERS + ODD)
    if rng.random() < 0.1:
        made.pop(rng.choice(list(made)))
    return made


def call(rng: random.Random, video: str) -> tuple[str, dict[str, Any]]:
    """A path and a body."""
    hints: Any = [hint(rng) for _ in range(rng.choice([0, 1, 1, 2, 3, 64, 65]))]
    if rng.random() < 0.05:
        hints = rng.choice(ODD + NUMBERS)
    which = rng.random()
    if which < 0.5:
        body = {"picture": picture(rng), "hints": hints, "quality": rng.choice(["fast", "x", 1])}
        return "/v2/video/segment/preview", body
    if which < 0.7:
        return "/v2/video/segment/foreground_mask", {"video": video, "hints": hints}
    if which < 0.9:
        points = [hint(rng) for _ in range(rng.randint(0, 3))]
        body = {"video": video, "key_points": points, "frame_index": rng.choice(NUMBERS + ODD)}
        return "/v2/video/segment/mask_by_key_points", body
    return f"/v2/status/{JOB}/refine", {"video": video, "hints": hints}


def main() -> None:
    """Send, count, and leave with an error where something was a 500."""
    url, token, *rest = sys.argv[1:]
    video = rest[0] if rest else "ftp://nowhere"
    requests = int(rest[1]) if rest[1:] else REQUESTS
    rng = random.Random(SEED)  # noqa: S311
    answers: collections.Counter[int] = collections.Counter()
    wrong = []
    with httpx.Client(base_url=url, headers={"api_token": token}, timeout=60) as client:
        for _ in range(requests):
            path, body = call(rng, video)
            try:
                answer = client.post(path, json=body)
            except ValueError:
                continue  # no JSON says this
            answers[answer.status_code] += 1
            if answer.status_code >= 500 or "Traceback" in answer.text:
                wrong.append((path, str(body)[:300], answer.text[:300]))
    print(f"{requests} calls with hints: {dict(sorted(answers.items()))}, {len(wrong)} wrong")
    if wrong:
        print(*wrong[:5], sep="\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
