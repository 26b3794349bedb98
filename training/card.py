"""Write the card of the trained file: data, progress, curve and numbers.

    python -m training.card DELTA ARCHIVES RESULT

DELTA's log and an earlier card, of the same name but for the ending, give the curve. RESULT is what
training.evaluate has written.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from training.pictures import SOURCES_THAT_JUDGE, Archive

SAMPLES_A_ROW = 500
PROMPTS = {
    "one click": ("click, 1 clicks",),
    "more clicks": ("click, ",),
    "automatic mask and clicks": ("automatic mask, ", "own answer, "),
    "moved mask": ("moved mask, ",),
    "small error": ("small error, ",),
    "other things": ("other things, ",),
    "box or stroke": ("box, ", "stroke, "),
}
"""Columns of the curve, by the beginnings of the log's names; the first that fits counts."""


def column_of(prompt: str) -> str:
    return next(name for name, starts in PROMPTS.items() if prompt.startswith(starts))


def curve_rows(log: Path, after_samples: int, until_samples: int) -> list[dict[str, float]]:
    """Mean J in percent of training answers, a row for each SAMPLES_A_ROW samples."""
    rows: list[dict[str, float]] = []
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    begin = after_samples
    for line in log.read_text().splitlines():
        facts = json.loads(line)
        if not after_samples < facts["samples"] <= until_samples:
            continue
        for prompt, (mean, count) in facts["j"].items():
            sums[column_of(prompt)] += mean * count
            counts[column_of(prompt)] += count
        if facts["samples"] - begin >= SAMPLES_A_ROW:
            means = {name: round(sums[name] / counts[name], 1) for name in PROMPTS if counts[name]}
            rows.append({"samples": facts["samples"], **means})
            begin = facts["samples"]
            sums.clear()
            counts.clear()
    return rows


def main() -> None:
    delta, archives, result = (Path(argument) for argument in sys.argv[1:4])
    path = delta.with_suffix(".json")
    curve: list[dict[str, float]] = []
    numbers: dict[str, object] = {}
    if path.exists():
        before = json.loads(path.read_text())
        curve = before["curve"]
        numbers = before["numbers"]
    measured = json.loads(result.read_text())["summary"]
    numbers[f"at {measured.pop('samples')} samples"] = measured
    with np.load(delta) as arrays:
        samples, pictures, steps = arrays["counts"].tolist()
        values = sum(arrays[name].size for name in arrays.files if name != "counts")
    last = int(curve[-1]["samples"]) if curve else 0
    curve += curve_rows(delta.with_suffix(".jsonl"), last, samples)
    data = {}
    for archive in sorted(archives.glob("*.zip")):
        used = "held out" if archive.stem in SOURCES_THAT_JUDGE else "trained on"
        held_out = archive.stem in SOURCES_THAT_JUDGE
        data[archive.stem] = {used: len(Archive(archive, held_out=held_out))}
        if not held_out:
            data[archive.stem]["held out"] = len(Archive(archive, held_out=True))
    card = {
        "samples": samples,
        "pictures": pictures,
        "steps": steps,
        "values": values,
        "data": data,
        "terms": "docs/models.md",
        "curve": curve,
        "numbers": numbers,
    }
    path.write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
