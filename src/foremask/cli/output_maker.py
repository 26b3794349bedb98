"""Makes one output of `foremask mask` or `cutout` after the other, here or in a task of Ray."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from foremask.cli import model_commands, standard_streams
from foremask.cli.batch_options import BatchOptions
from foremask.cli.products import OutputJob, Product, make_folder
from foremask.cli.progress_bar import progress_bar
from foremask.cli.sources import local_clip
from foremask.errors import ForemaskError, OutputExists
from foremask.facts import Report
from foremask.hints.decoding import hints_as_typed
from foremask.masking.outputs import check_target
from foremask.options import Files, JobSpec, Resources
from foremask.settings import Settings

if TYPE_CHECKING:
    from foremask.pipeline.progress import Progress


@dataclass(frozen=True, slots=True)
class Made:
    """A report, and the time to make the output, without the download."""

    report: Report
    took_s: float


Outcome = Made | None | ForemaskError
"""What became of a job; None: its output was there already, and whole."""


@dataclass(slots=True, kw_only=True)
class OutputMaker:
    """Holds what all jobs of a command have in common. It can be pickled."""

    product: Product
    asked: BatchOptions
    spec: JobSpec
    resources: Resources
    cache: Path | None
    rate: Fraction  # frames per second of an image sequence
    settings: Settings
    hints_typed: tuple[str, ...]

    def make(
        self, job: OutputJob, label: str, on_progress: Callable[["Progress"], None]
    ) -> Made | None:
        """Make the output of ``job``; None if it is there already. Raises ForemaskError."""
        asked = self.asked
        is_kept = self.check(job)
        with local_clip(job.source, self.settings, self.rate, shows=not asked.quiet) as clip:
            if is_kept:
                fault = self._fault_of(clip, job)
                if fault is None:
                    return None
                if not asked.force:
                    raise OutputExists(
                        f"{job.target} exists already and is no whole {self.product.name} of"
                        f" {job.source.named} ({fault})"
                    )
            needs_network = self.product.mask is None and self.spec.chosen_tracker is None
            if needs_network and self.resources.model is None:
                model = model_commands.ready(self.settings, asked.network)
                self.resources = replace(self.resources, model=model)
            if not job.is_sent:
                return self._made(job, clip, label, on_progress)
            with standard_streams.spool_folder() as folder:
                target = folder / f"made{job.form.suffix}"
                made = self._made(replace(job, target=target), clip, label, on_progress)
                standard_streams.send(target)
                return made

    def check(self, job: OutputJob) -> bool:
        """Return whether an existing output may be kept, else raise if it cannot be written."""
        if self.asked.skip_existing and job.target.exists():
            return True
        if not job.is_sent:
            make_folder(job.target, self.asked.output)
            check_target(  # before the download; `run` checks again after it
                msgspec.structs.replace(self.spec, form=job.form),
                job.target,
                job.source.files,
                background=self.product.background,
                replace=self.asked.force,
            )
        return False

    def _first_number(self, job: OutputJob) -> int:
        """The number of the first PNG: a picture keeps its number, from --start on too."""
        if self.product.first_number is not None:
            return self.product.first_number
        skipped = 0
        if self.spec.excerpt is not None and job.source.pictures:
            skipped = ceil(self.spec.excerpt.start_s * self.rate - Fraction(1, 1000))
        return job.source.first_number + skipped

    def _made(
        self, job: OutputJob, clip: Path, label: str, on_progress: Callable[["Progress"], None]
    ) -> Made:
        from foremask.masking.runner import run  # slow to import

        files = Files(
            source=clip,
            target=job.target,
            background=self.product.background,
            mask=self.product.mask,
            cache=self.cache,
            replace=self.asked.force,
            first_number=self._first_number(job),
        )
        started_s = time.monotonic()
        with progress_bar(label, "frames", shows=not self.asked.quiet) as show:

            def on_frame(progress: "Progress") -> None:
                on_progress(progress)
                show(
                    progress.frames_done,
                    progress.frames_total,
                    progress.left_s,
                    is_estimate=not progress.total_is_known,
                )

            spec = msgspec.structs.replace(self.spec, form=job.form)
            with hints_as_typed(self.hints_typed):
                report = run(spec, files, on_frame, self.resources)
        return Made(report, time.monotonic() - started_s)

    def _fault_of(self, clip: Path, job: OutputJob) -> str | None:
        from foremask.media.verify import verify

        try:
            verify(clip, job.target, self.product.checked_as)
        except ForemaskError as error:
            return error.details
        return None
