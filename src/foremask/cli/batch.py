"""Runs the jobs of one `foremask mask` or `cutout`, and prints outcomes and the summary."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from foremask.cli.exits import Exit, exit_code, note, print_json, say, show_error, warn
from foremask.cli.forecast import Forecast
from foremask.cli.inputs import local_clip
from foremask.cli.progress_bar import MASKED, progress_bar
from foremask.cli.standard_streams import send, spool_folder
from foremask.cli.targets import Job, Product, make_folder
from foremask.errors import ForemaskError, Internal, OutputExists
from foremask.facts import Report
from foremask.options import MaskOptions
from foremask.settings import Settings

if TYPE_CHECKING:
    from foremask.masking.report import Progress

type OnDone = Callable[[Progress], object]


class Maker(Product, Protocol):
    """Makes one kind of file."""

    @property
    def done(self) -> str:
        """What has become of a clip: masked."""
        ...

    @property
    def bar(self) -> str:
        """The label of the progress."""
        ...

    @property
    def needs_model(self) -> bool: ...

    def check(self, job: Job, *, replace: bool) -> None:
        """Raise OutputFailed or FieldInvalid where the target cannot be."""
        ...

    def make(
        self,
        job: Job,
        clip: Path,
        target: Path,
        options: MaskOptions,
        on_frame: OnDone,
        *,
        replaces: bool,
    ) -> Report:
        """Write ``target`` from ``clip``, the file of the job's source."""
        ...

    def verify(self, job: Job, clip: Path) -> None:
        """Raise a ForemaskError where the job's target is no whole one of ``clip``."""
        ...


@dataclass(frozen=True, slots=True)
class Tone:
    """How much is printed, and in which form."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False


type _Made = tuple[Report, float]  # and the seconds that it took


@dataclass(slots=True)
class Batch:
    """Jobs that are done one after the other by one loaded network.

    ``jobs`` of a folder that is watched have no end. ``fps`` is that of pictures which are a clip.
    ``replace`` replaces existing targets, ``skip_existing`` keeps complete ones. ``find_model``
    brings the weights, before the first mask and not before the first check.
    """

    jobs: Iterable[Job]
    output: str | None
    options: MaskOptions
    fps: Fraction
    settings: Settings
    tone: Tone
    replace: bool
    skip_existing: bool
    fail_fast: bool
    find_model: Callable[[], Path]
    maker: Maker
    failures: list[tuple[Job, ForemaskError]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _model: Path | None = None
    _running: bool = False
    _forecast: Forecast | None = None

    @property
    def _total(self) -> int | None:
        return len(self.jobs) if isinstance(self.jobs, Sequence) else None

    def run(self) -> Exit:
        """Make all; gives the exit code: of the only job its own, of several 1 if one failed."""
        if isinstance(self.jobs, Sequence) and len(self.jobs) > 1 and not self.tone.quiet:
            self._forecast = Forecast(self.jobs) if self.options.excerpt is None else None
        try:
            for number, job in enumerate(self.jobs, 1):
                self._running = True
                self._run_job(job, number)
                if self.failures and self.fail_fast:
                    break
        except BaseException:
            self._summarise("stopped")
            raise
        self._summarise("done")
        if not self.failures:
            return Exit.OK
        return exit_code(self.failures[0][1]) if self._total == 1 else Exit.INTERNAL

    def _run_job(self, job: Job, number: int) -> None:
        name = job.source.path.name
        label = f"{number}/{self._total} {name}" if self._total else name
        if self._total == 1:
            label = self.maker.bar
        if self._forecast is not None:
            self._forecast.begin()
        masked = False
        try:
            made = self._outcome(job, label)
        except ForemaskError as error:
            self._failed(job, error)
        except Exception as error:
            if self._total == 1:
                raise
            # One clip's bug must not end a night's batch.
            self._failed(job, Internal(f"{type(error).__name__}: {error}"))
        else:
            self._answer(job, made)
            masked = made is not None
        if self._forecast is not None:
            self._forecast.end(masked=masked)

    def _outcome(self, job: Job, label: str) -> _Made | None:
        if not self.skip_existing or not job.target.exists():
            self._check(job)
        shows = not self.tone.quiet
        with local_clip(job.source, self.settings, self.fps, shows=shows) as clip:
            if self.skip_existing and job.target.exists():
                fault = self._fault_of(clip, job)
                if fault is None:
                    return None
                if not self.replace:
                    raise OutputExists(
                        f"{job.target} exists already and is no whole {self.maker.name} of"
                        f" {job.source.named} ({fault})"
                    )
                self._check(job)
            if self.maker.needs_model:
                self._model = self._model or self.find_model()
            started_s = time.monotonic()
            options = replace(self.options, model=self._model)
            if not job.is_sent:
                report = self._made(job, clip, job.target, label, options)
            else:
                with spool_folder() as folder:
                    suffix = ".png" if job.form is None else job.form.suffix
                    report = self._made(job, clip, folder / f"made{suffix}", label, options)
                    send(folder / f"made{suffix}")
            return report, time.monotonic() - started_s

    def _check(self, job: Job) -> None:
        if not job.is_sent:
            make_folder(job.target, self.output)
            self.maker.check(job, replace=self.replace)

    def _made(self, job: Job, clip: Path, target: Path, label: str, options: MaskOptions) -> Report:
        left_of_all_s = None if self._forecast is None else self._forecast.left_s
        shows = not self.tone.quiet
        with progress_bar(label, MASKED, shows=shows, left_of_all_s=left_of_all_s) as show:

            def on_frame(progress: "Progress") -> None:
                total = progress.frames_total if progress.total_is_known else None
                show(progress.frames_done, total, progress.left_s)

            return self.maker.make(job, clip, target, options, on_frame, replaces=self.replace)

    def _fault_of(self, clip: Path, job: Job) -> str | None:
        """Why the job's target is no whole one of ``clip``; None where it is."""
        try:
            self.maker.verify(job, clip)
        except ForemaskError as error:
            return error.details
        return None

    def _describe(self, job: Job, report: Report, took_s: float) -> None:
        tell = note if job.is_sent else say
        for remark in report.warnings:
            warn(remark if self._total == 1 else f"{job.source.named}: {remark}")
        if job.form is None:
            tell(f"{job.shown_target}: a picture; made in {took_s:.1f} s")
        else:
            kind = "" if report.kind == "mask" else f"{report.kind}, "
            tell(
                f"{job.shown_target}: {kind}{report.frames_out} frames, {report.duration_s:.2f} s,"
                f" {job.form}; made in {took_s:.1f} s ({report.frames_out / took_s:.1f} fps)"
            )
        if self.tone.verbose:
            costs = ", ".join(f"{stage} {cost:.1f} s" for stage, cost in report.stage_cpu_s.items())
            sound = ", ".join(f"{track.codec} {track.action}" for track in report.audio) or "none"
            tell(
                f"  foreground {report.coverage:.1%}, flicker {report.flicker:.4f}, sound: {sound}",
                f"  {report.runtime}; processor time: {costs}",
                f"  {report.bytes} bytes, sha256 {report.sha256}",
            )

    def _answer(self, job: Job, made: _Made | None) -> None:
        self._count(
            "skipped" if made is None else self.maker.done
        )  # before who reads may stop the batch
        if self.tone.as_json:
            facts: dict[str, Any] = {"outcome": "skipped"}
            if made is not None:
                report, took_s = made
                facts = {"outcome": self.maker.done, "seconds": round(took_s, 2)}
                facts |= msgspec.to_builtins(report)
                del facts["strip"]  # a row for each frame
            self._answer_json(job, facts)
        elif self.tone.quiet:
            return
        elif made is None:
            say(f"{job.target}: is there already, and whole")
        else:
            self._describe(job, *made)

    def _count(self, outcome: str) -> None:
        self.counts[outcome] += 1
        self._running = False

    def _answer_json(self, job: Job, facts: dict[str, Any]) -> None:
        named = {"input": job.source.named, "output": str(job.target)}
        print_json(named | facts, indent=None)

    def _failed(self, job: Job, error: ForemaskError) -> None:
        self.failures.append((job, error))
        self._count("failed")
        show_error(error, of=None if self._total == 1 else job.source.named)
        if self.tone.as_json:
            facts = {"reason": error.reason, "details": error.details}
            self._answer_json(job, {"outcome": "failed", "error": facts})

    def _summarise(self, how: str) -> None:
        """One line on standard error, and the failures again, where several clips were named."""
        if self._total == 1 or (self.tone.quiet and not self.failures):
            return
        counts = dict(self.counts)
        broken_off = int(how == "stopped" and self._running)
        if self._total is not None:
            counts["not begun"] = max(0, self._total - sum(counts.values()) - broken_off)
        counts["broken off"] = broken_off
        text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        lines = [f"{how}: {text or 'nothing to do'}"]
        lines += [f"  failed: {job.source.named} [{error.reason}]" for job, error in self.failures]
        note(*lines)
