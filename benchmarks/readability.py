"""Median and 90th percentile of the sentence length of every page, in words.

``python -m benchmarks.readability [COMMIT]`` prints a table; with a commit, before and after.
Code, tables, pictures and link targets do not count; an item of a list is a sentence.
"""

import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LEFT_OUT = re.compile(r"<!--[^\n]*-->|^[|#].*$|!\[[^\]]*\]\([^)]*\)|<[^>\n]*>", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_PARAGRAPH = re.compile(r"\n\s*\n|^\s*(?:[-*]|\d+\.)\s", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`*\"\d])")
_WORD = re.compile(r"[^\s]*\w[^\s]*")


def sentence_lengths(markdown: str) -> list[int]:
    """Words in each sentence of the prose."""
    prose = _LINK.sub(r"\1", _LEFT_OUT.sub("", _CODE.sub("", markdown)))
    return [
        words
        for paragraph in _PARAGRAPH.split(prose)
        for sentence in _SENTENCE.split(paragraph)
        if (words := len(_WORD.findall(sentence)))
    ]


def median_and_p90(lengths: list[int]) -> tuple[float, float]:
    """Of a page; zero where it has fewer than two sentences."""
    if len(lengths) < 2:
        return 0, 0
    return statistics.median(lengths), statistics.quantiles(lengths, n=10, method="inclusive")[-1]


def _before(commit: str, path: str) -> str:
    shown = subprocess.run(  # noqa: S603
        ["git", "show", f"{commit}:{path}"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return shown.stdout if shown.returncode == 0 else ""


def main() -> None:
    """Print the table."""
    commit = sys.argv[1] if len(sys.argv) > 1 else ""
    print(
        "| page | sentences | median | p90 |" + (" median before | p90 before |" if commit else "")
    )
    print("|---|---|---|---|" + ("---|---|" if commit else ""))
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        name = str(path.relative_to(ROOT))
        lengths = sentence_lengths(path.read_text(encoding="utf-8"))
        cells = [name, str(len(lengths)), *(f"{each:g}" for each in median_and_p90(lengths))]
        if commit:
            before = sentence_lengths(_before(commit, name))
            cells += [f"{each:g}" for each in median_and_p90(before)] if before else ["", ""]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
