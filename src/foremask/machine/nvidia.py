"""Finds NVIDIA's cards without NVIDIA's libraries."""

from pathlib import Path


def nvidia_cards() -> list[Path]:
    """The device files of NVIDIA's cards on this machine."""
    return [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
