"""What a worker asks of the confined media process, in the words that cross to it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from foremask.options import Limits
from foremask.service.sandbox.pool import OnProgress

# Long enough that what is seen on both sides costs little, short enough that a lost worker does:
# docs/adr/0056
SEGMENT_S = 8.0


class MediaRunner(Protocol):
    """Runs one operation in a process of its own: sandbox.pool in service, a stand-in in tests."""

    async def run(
        self,
        operation: str,
        args: dict[str, Any],
        *,
        read_paths: Iterable[Path] = (),
        scratch: Path | None = None,
        on_progress: OnProgress | None = None,
        wall_clock_s: float = 600.0,
        owner: str = "",
    ) -> Any:  # noqa: ANN401  # each operation has its own result
        """Do ``operation`` and give its result in plain types."""
        ...


class Media:
    """The six operations, for one step: over files of its scratch, no longer than its time.

    ``masks`` runs what needs the network, which is in ``model``; ``files`` runs the rest: a worker
    that masks still ingests.
    """

    def __init__(
        self, masks: MediaRunner, files: MediaRunner, limits: Limits, model: Path | None = None
    ) -> None:
        self._masks, self._files = masks, files
        self._limits = asdict(limits)
        self._model = None if model is None else str(model)

    def for_step(self, scratch: Path, owner: str) -> "StepMedia":
        """The operations over ``scratch``, on behalf of ``owner``."""
        return StepMedia(self._masks, self._files, self._limits, self._model, scratch, owner)


class StepMedia:
    """As `Media`, for one step. Every path lies in the step's scratch."""

    def __init__(
        self,
        masks: MediaRunner,
        files: MediaRunner,
        limits: dict[str, object],
        model: str | None,
        scratch: Path,
        owner: str,
    ) -> None:
        self._masks, self._files, self._limits, self._model = masks, files, limits, model
        self._scratch, self._owner = scratch, owner

    async def probe(self, source: Path, preset: str, wall_clock_s: float) -> dict[str, Any]:
        """What the file is; raises what its owner is told when it cannot be masked."""
        args = {"source": str(source), "limits": self._limits, "preset": preset}
        clip: dict[str, Any] = await self._file("probe", args, [source], wall_clock_s)
        return clip

    async def plan(self, source: Path, wall_clock_s: float) -> list[dict[str, Any]]:
        """Where to cut it; one span is the whole clip."""
        args = {"source": str(source), "target_s": SEGMENT_S}
        spans: list[dict[str, Any]] = await self._file("plan", args, [source], wall_clock_s)
        return spans

    async def cut(
        self, source: Path, span: dict[str, Any], target: Path, wall_clock_s: float
    ) -> None:
        """Copy a span, and what its decoding needs, into ``target``."""
        args = {"source": str(source), "span": span, "target": str(target)}
        await self._file("cut", args, [source], wall_clock_s)

    async def mask(
        self,
        source: Path,
        target: Path,
        *,
        preset: str,
        quality: str,
        span: dict[str, Any] | None,
        wall_clock_s: float,
        on_progress: OnProgress,
    ) -> dict[str, Any]:
        """Mask a clip, or a span of one; returns the report."""
        options = {
            "preset": preset,
            "quality": quality,
            "limits": self._limits,
            "model": self._model,
        }
        args = {"source": str(source), "target": str(target), "options": options, "span": span}
        report: dict[str, Any] = await self._masks.run(
            "mask",
            args,
            read_paths=[source],
            scratch=self._scratch,
            on_progress=on_progress,
            wall_clock_s=wall_clock_s,
            owner=self._owner,
        )
        return report

    async def join(
        self, parts: Sequence[Path], source: Path, target: Path, preset: str, wall_clock_s: float
    ) -> dict[str, Any]:
        """One mask of the parts, in order, with the sound of ``source``; returns what was done."""
        args = {
            "parts": [str(part) for part in parts],
            "source": str(source),
            "target": str(target),
            "preset": preset,
        }
        joined: dict[str, Any] = await self._file("join", args, [source, *parts], wall_clock_s)
        return joined

    async def recode(
        self, source: Path, target: Path, preset: str, wall_clock_s: float, on_progress: OnProgress
    ) -> dict[str, Any]:
        """A mask of ours into another preset; returns what was done."""
        args = {
            "source": str(source),
            "target": str(target),
            "preset": preset,
            "memory_bytes": self._limits["memory_bytes"],
        }
        recoded: dict[str, Any] = await self._file(
            "recode", args, [source], wall_clock_s, on_progress
        )
        return recoded

    async def _file(
        self,
        operation: str,
        args: dict[str, Any],
        read_paths: list[Path],
        wall_clock_s: float,
        on_progress: OnProgress | None = None,
    ) -> Any:  # noqa: ANN401  # each operation has its own result
        return await self._files.run(
            operation,
            args,
            read_paths=read_paths,
            scratch=self._scratch,
            on_progress=on_progress,
            wall_clock_s=wall_clock_s,
            owner=self._owner,
        )
