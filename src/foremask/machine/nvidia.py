"""Finds NVIDIA's cards without NVIDIA's libraries."""

from pathlib import Path


def nvidia_cards() -> list[Path]:
    return [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
