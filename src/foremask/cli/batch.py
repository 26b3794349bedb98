"""Runs the jobs of one `foremask mask` or `cutout`, and prints their outcomes and a summary."""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from foremask.cli import model_commands, standard_streams
from foremask.cli.batch_options import BatchOptions
from foremask.cli.exits import Exit, Usage, exit_code, note, print_json, say, show_error, warn
from foremask.cli.inputs import local_clip
from foremask.cli.products import PNG, Job, Product
from foremask.cli.progress_bar import progress_bar
from foremask.cli.sources import find_sources
from foremask.cli.targets import make_folder, plan_jobs
from foremask.errors import ForemaskError, Internal, OutputExists
from foremask.facts import Report
from foremask.options import MaskOptions
from foremask.settings import Settings, read_settings

if TYPE_CHECKING:
    from foremask.masking.report import Progress


def run_batch(
    command: str,
    inputs: Sequence[str | Path],
    asked: BatchOptions,
    product: Product,
    **more: Any,  # noqa: ANN401  # fields of MaskOptions
) -> Exit:
    settings = read_settings(os.environ)
    if asked.quiet and asked.verbose:
        raise Usage("--quiet and --verbose cannot both be")
    jobs = _jobs(command, tuple(map(str, inputs)), asked, product)
    hints = asked.hinted.parsed()
    is_one = len(jobs) == 1
    if hints and (asked.skip_existing or not is_one):
        raise Usage("hints are of one clip: name one INPUT, and leave out --skip-existing")
    options = replace(
        asked.network.mask_options(is_one=is_one), excerpt=asked.excerpt, hints=hints, **more
    )
    if asked.skip_existing and (asked.start or asked.end):
        raise Usage("--skip-existing checks whole masks: leave out --start and --end")
    if asked.fps is not None and not any(job.source.pictures for job in jobs):
        raise Usage("--fps is of pictures that are a clip: name a folder of them, or %04d.png")
    if any(job.is_sent for job in jobs):
        if asked.skip_existing:
            raise Usage("-o - is always written: leave out --skip-existing")
        standard_streams.check_standard_output(as_json=asked.as_json)
    return Batch(command, jobs, product, asked, options, settings).run()


def _jobs(command: str, words: tuple[str, ...], asked: BatchOptions, product: Product) -> list[Job]:
    if not words:
        raise Usage(f"INPUT is missing: name a clip, a folder or a URL; foremask {command} --help")
    try:
        sources = find_sources(words, recursive=asked.recursive, joined=asked.fps is not None)
    except Usage as error:
        raise _with_hint(error, command, words, asked.output) from None
    picture = next((each for each in sources if each.is_picture), None)
    if picture is not None and asked.excerpt is not None:
        raise Usage(f"{picture.named} is a picture: leave out --start and --end")
    jobs, left_out = plan_jobs(sources, asked.output, product)
    for source in left_out if not asked.quiet else ():
        warn(f"{source.named} is the {product.name} of another INPUT and is left out")
    return jobs


def _with_hint(error: Usage, command: str, words: tuple[str, ...], output: str | None) -> Usage:
    is_in_out = len(words) == 2 and output is None and "://" not in words[1]
    if (
        not is_in_out
        or Path(words[1]).exists()
        or not ("://" in words[0] or Path(words[0]).exists())
    ):
        return error
    return Usage(f"{error.details}; to write it there: foremask {command} {words[0]} -o {words[1]}")


type _Made = tuple[Report, float]  # the report, and how many seconds the making took


@dataclass(slots=True)
class Batch:
    command: str
    jobs: list[Job]
    product: Product
    asked: BatchOptions
    options: MaskOptions
    settings: Settings
    failures: list[tuple[Job, ForemaskError]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _running: bool = False

    @property
    def _total(self) -> int:
        return len(self.jobs)

    def run(self) -> Exit:
        how = "stopped"
        logging.disable(logging.WARNING if self.asked.quiet else logging.NOTSET)
        try:
            for number, job in enumerate(self.jobs, 1):
                self._running = True
                self._run_job(job, number)
                if self.failures and self.asked.fail_fast:
                    break
            how = "done"
        finally:
            logging.disable(logging.NOTSET)
            self._summarise(how)
        if not self.failures:
            return Exit.OK
        return exit_code(self.failures[0][1]) if self._total == 1 else Exit.INTERNAL

    def _run_job(self, job: Job, number: int) -> None:
        name = job.source.path.name
        label = self.product.bar if self._total == 1 else f"{number}/{self._total} {name}"
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

    def _outcome(self, job: Job, label: str) -> _Made | None:
        """Return None where --skip-existing finds the output complete."""
        asked = self.asked
        if not asked.skip_existing or not job.target.exists():
            self._check(job)
        with local_clip(job.source, self.settings, asked.rate, shows=not asked.quiet) as clip:
            if asked.skip_existing and job.target.exists():
                fault = self._fault_of(clip, job)
                if fault is None:
                    return None
                if not asked.force:
                    raise OutputExists(
                        f"{job.target} exists already and is no whole {self.product.name} of"
                        f" {job.source.named} ({fault})"
                    )
                self._check(job)
            if self.product.needs_model and self.options.model is None:  # pulled when first needed
                model = model_commands.ready(self.settings, asked.network.model)
                self.options = replace(self.options, model=model)
            started_s = time.monotonic()
            if not job.is_sent:
                report = self._made(job, clip, label)
            else:
                with standard_streams.spool_folder() as folder:
                    made = folder / f"made{PNG if job.form is None else job.form.suffix}"
                    report = self._made(replace(job, target=made), clip, label)
                    standard_streams.send(made)
            return report, time.monotonic() - started_s

    def _check(self, job: Job) -> None:
        if not job.is_sent:
            make_folder(job.target, self.asked.output)
            self.product.check(job, replace=self.asked.force)

    def _made(self, job: Job, clip: Path, label: str) -> Report:
        with progress_bar(label, "frames", shows=not self.asked.quiet) as show:

            def on_frame(progress: "Progress") -> None:
                total = progress.frames_total if progress.total_is_known else None
                show(progress.frames_done, total, progress.left_s)

            make = self.product.make
            return make(job, clip, self.options, on_frame, replaces=self.asked.force)

    def _fault_of(self, clip: Path, job: Job) -> str | None:
        from foremask.media.verify import verify

        try:
            verify(clip, job.target, self.product.kind)
        except ForemaskError as error:
            return error.details
        return None

    def _answer(self, job: Job, made: _Made | None) -> None:
        outcome = "skipped" if made is None else self.product.done
        self._count(outcome)  # before printing, which fails where the pipe is closed
        if self.asked.as_json:
            facts: dict[str, Any] = {"outcome": outcome}
            if made is not None:
                report, took_s = made
                facts |= {"seconds": round(took_s, 2)} | msgspec.to_builtins(report)
                del facts["strip"]  # a row for each frame
            self._answer_json(job, facts)
        elif self.asked.quiet:
            return
        elif made is None:
            say(f"{job.target}: is there already, and whole")
        else:
            self._describe(job, *made)

    def _describe(self, job: Job, report: Report, took_s: float) -> None:
        tell, target = (note, "standard output") if job.is_sent else (say, job.target)
        for remark in report.warnings:
            warn(remark if self._total == 1 else f"{job.source.named}: {remark}")
        if job.form is None:
            tell(f"{target}: a picture; made in {took_s:.1f} s")
        else:
            kind = "" if report.kind == "mask" else f"{report.kind}, "
            tell(
                f"{target}: {kind}{report.frames_out} frames, {report.duration_s:.2f} s,"
                f" {job.form}; made in {took_s:.1f} s ({report.frames_out / took_s:.1f} fps)"
            )
        if self.asked.verbose:
            costs = ", ".join(f"{stage} {cost:.1f} s" for stage, cost in report.stage_cpu_s.items())
            sound = ", ".join(f"{track.codec} {track.action}" for track in report.audio) or "none"
            tell(
                f"  foreground {report.coverage:.1%}, flicker {report.flicker:.4f}, sound: {sound}",
                f"  {report.runtime}; processor time: {costs}",
                f"  {report.bytes} bytes, sha256 {report.sha256}",
            )

    def _failed(self, job: Job, error: ForemaskError) -> None:
        self.failures.append((job, error))
        self._count("failed")
        show_error(error, self.command, "" if self._total == 1 else job.source.named)
        if self.asked.as_json:
            facts = {"reason": error.reason, "details": error.details}
            self._answer_json(job, {"outcome": "failed", "error": facts})

    def _count(self, outcome: str) -> None:
        self.counts[outcome] += 1
        self._running = False

    def _answer_json(self, job: Job, facts: dict[str, Any]) -> None:
        print_json({"input": job.source.named, "output": str(job.target)} | facts, indent=None)

    def _summarise(self, how: str) -> None:
        if self._total == 1 or (self.asked.quiet and not self.failures):
            return
        counts = dict(self.counts)
        broken_off = int(how == "stopped" and self._running)
        counts["not begun"] = max(0, self._total - sum(counts.values()) - broken_off)
        counts["broken off"] = broken_off
        text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        lines = [f"{how}: {text or 'nothing to do'}"]
        lines += [f"  failed: {job.source.named} [{error.reason}]" for job, error in self.failures]
        note(*lines)
