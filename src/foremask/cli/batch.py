"""Runs the jobs of `foremask mask` or `cutout`, and prints their outcomes and a summary."""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from foremask.cli import model_commands, standard_streams
from foremask.cli.batch_options import BatchOptions
from foremask.cli.exits import Exit, Usage, exit_code, note, print_json, say, show_error
from foremask.cli.products import OutputJob, Product, make_folder, plan_jobs
from foremask.cli.progress_bar import progress_bar
from foremask.cli.sources import find_sources, local_clip
from foremask.errors import ForemaskError, Internal, OutputExists
from foremask.facts import Report
from foremask.hints.decoding import as_typed, hints_as_typed
from foremask.hints.kinds import marked_hints
from foremask.masking.outputs import check_target
from foremask.options import Files, Form, JobSpec, Resources
from foremask.settings import Settings, read_settings

if TYPE_CHECKING:
    from foremask.pipeline.progress import Progress

EXISTS_REMEDY: Final = "--skip-existing keeps it if it is whole, --force replaces it."


def run_batch(
    command: str, inputs: Sequence[str | Path], asked: BatchOptions, product: Product
) -> Exit:
    settings = read_settings(os.environ)
    if asked.quiet and asked.verbose:
        raise Usage("--quiet and --verbose cannot both be")
    jobs = _jobs(command, tuple(map(str, inputs)), asked, product)
    typed = asked.hinted.parsed()
    hints = tuple(typed.values())
    is_one = len(jobs) == 1
    if marked_hints(hints) and (asked.skip_existing or not is_one):
        raise Usage("hints are of one clip: name one INPUT, and leave out --skip-existing")
    spec = msgspec.structs.replace(
        product.spec,
        quality=asked.network.quality,
        excerpt=asked.excerpt,
        hints=hints,
        tracker=asked.hinted.tracker,
    )
    resources = replace(asked.network.resources(), tracker_dir=settings.model_dir)
    cache = asked.network.cache_of(is_one=is_one)
    if asked.skip_existing and (asked.start or asked.end):
        raise Usage("--skip-existing checks whole masks: leave out --start and --end")
    rate = asked.rate
    if asked.fps is not None and not any(job.source.pictures for job in jobs):
        raise Usage("--fps is of pictures that are a clip: name a folder of them, or %04d.png")
    if any(job.is_sent for job in jobs):
        if asked.skip_existing:
            raise Usage("-o - is always written: leave out --skip-existing")
        standard_streams.check_standard_output(as_json=asked.as_json)
    return _Batch(
        command=command,
        jobs=jobs,
        product=product,
        asked=asked,
        spec=spec,
        resources=resources,
        cache=cache,
        rate=rate,
        settings=settings,
        hints_typed=tuple(typed),
    ).run()


def _jobs(
    command: str, words: tuple[str, ...], asked: BatchOptions, product: Product
) -> list[OutputJob]:
    if not words:
        raise Usage(f"INPUT is missing: name a clip, a folder or a URL; foremask {command} --help")
    try:
        sources = find_sources(words, recursive=asked.recursive, joined=asked.fps is not None)
    except Usage as error:
        is_pair = len(words) == 2 and asked.output is None
        if not is_pair or not _is_there(words[0]) or _is_there(words[1]):
            raise
        usual = f"foremask {command} {words[0]} -o {words[1]}"
        raise Usage(f"{error.details}; to write it there: {usual}") from None
    made = [each for each in sources if each.is_named_as_made]  # a shell's * matches outputs too
    if len(made) < len(sources):
        sources = [each for each in sources if each not in made]
        if not asked.quiet:
            for each in made:
                note(f"warning: {each.named} is named like an output and is left out")
    picture = next((each for each in sources if each.is_picture), None)
    if picture is not None and asked.excerpt is not None:
        raise Usage(f"{picture.named} is a picture: leave out --start and --end")
    return plan_jobs(sources, asked.output, product)


def _is_there(word: str) -> bool:
    return "://" in word or Path(word).exists()


@dataclass(slots=True, kw_only=True)
class _Batch:
    command: str
    jobs: list[OutputJob]
    product: Product
    asked: BatchOptions
    spec: JobSpec
    resources: Resources
    cache: Path | None
    rate: Fraction  # frames per second of an image sequence
    settings: Settings
    hints_typed: tuple[str, ...]
    failures: list[tuple[OutputJob, ForemaskError]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    begun: int = 0
    took_s: float = 0.0  # time to make the last output, without the download
    reached: str = ""  # how far the job at work has come, as `12 of 300 frames`

    def run(self) -> Exit:
        how = "stopped"
        logging.disable(logging.WARNING if self.asked.quiet else logging.NOTSET)
        try:
            for job in self.jobs:
                self.begun += 1
                self._run_job(job)
                if self.failures and self.asked.fail_fast:
                    break
            how = "done"
        except KeyboardInterrupt:
            return Exit.INTERRUPTED
        finally:
            logging.disable(logging.NOTSET)
            self._summarise(how)
        if not self.failures:
            return Exit.OK
        return exit_code(self.failures[0][1]) if self.is_one else Exit.INTERNAL

    @property
    def is_one(self) -> bool:
        return len(self.jobs) == 1

    def _run_job(self, job: OutputJob) -> None:
        try:
            report = self._outcome(job)
        except ForemaskError as error:
            self._failed(job, error)
        except Exception as error:
            if self.is_one:
                raise
            # A bug that one clip triggers must not stop the other jobs.
            self._failed(job, Internal(f"{type(error).__name__}: {error}"))
        else:
            self._answer(job, report)

    def _outcome(self, job: OutputJob) -> Report | None:
        asked = self.asked
        is_kept = asked.skip_existing and job.target.exists()
        if not (is_kept or job.is_sent):
            make_folder(job.target, asked.output)
            self._check_target(job)  # before the download; `run` checks again after it
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
                return self._made(job, clip)
            with standard_streams.spool_folder() as folder:
                made = folder / f"made{job.form.suffix}"
                report = self._made(replace(job, target=made), clip)
                standard_streams.send(made)
                return report

    def _check_target(self, job: OutputJob) -> None:
        check_target(
            msgspec.structs.replace(self.spec, form=job.form),
            job.target,
            job.source.files,
            background=self.product.background,
            replace=self.asked.force,
        )

    def _made(self, job: OutputJob, clip: Path) -> Report:
        from foremask.masking.run import run  # slow to import

        files = Files(
            source=clip,
            target=job.target,
            background=self.product.background,
            mask=self.product.mask,
            cache=self.cache,
            replace=self.asked.force,
        )
        label = self.product.bar
        if not self.is_one:
            label = f"{self.begun}/{len(self.jobs)} {job.source.path.name}"
        started_s = time.monotonic()
        with progress_bar(label, "frames", shows=not self.asked.quiet) as show:

            def on_progress(progress: "Progress") -> None:
                self._note_progress(progress)
                show(
                    progress.frames_done,
                    progress.frames_total,
                    progress.left_s,
                    is_estimate=not progress.total_is_known,
                )

            spec = msgspec.structs.replace(self.spec, form=job.form)
            with hints_as_typed(self.hints_typed):
                report = run(spec, files, on_progress, self.resources)
        self.took_s = time.monotonic() - started_s
        self.reached = ""
        return report

    def _note_progress(self, progress: "Progress") -> None:
        self.reached = f"{progress.frames_done} frames"
        if progress.frames_total is not None:
            about = "" if progress.total_is_known else "about "
            self.reached = f"{progress.frames_done} of {about}{progress.frames_total} frames"

    def _fault_of(self, clip: Path, job: OutputJob) -> str | None:
        from foremask.media.verify import verify

        try:
            verify(clip, job.target, self.product.checked_as)
        except ForemaskError as error:
            return error.details
        return None

    def _answer(self, job: OutputJob, report: Report | None) -> None:
        outcome = "skipped" if report is None else self.product.done
        self.outcomes.append(outcome)  # before printing, which may raise BrokenPipeError
        if self.asked.as_json:
            facts: dict[str, Any] = {"outcome": outcome}
            if report is not None:
                facts |= {"seconds": round(self.took_s, 2)} | msgspec.to_builtins(report)
                del facts["strip"]  # too long: one row for each frame
            self._answer_json(job, facts)
        elif self.asked.quiet:
            return
        elif report is None:
            say(f"{job.target}: is there already, and whole")
        else:
            self._describe(job, report)

    def _describe(self, job: OutputJob, report: Report) -> None:
        took_s = self.took_s
        tell = say
        target = str(job.target)
        if job.is_sent:
            tell = note
            target = "standard output"
        about = ""
        if not self.is_one:
            about = f"{job.source.named}: "
        for remark in report.warnings:
            note(f"warning: {about}{as_typed(remark, self.hints_typed)}")
        if job.form is Form.PNG:
            tell(f"{target}: a picture; made in {took_s:.1f} s")
        else:
            kind = "" if report.kind == "mask" else f"{report.kind}, "
            tell(
                f"{target}: {kind}{report.frames_out} frames, {report.duration_s:.2f} s,"
                f" {job.form}; made in {took_s:.1f} s ({report.frames_out / took_s:.1f} fps)"
            )
        if self.asked.verbose:
            costs = _costs(report)
            sound = ", ".join(f"{track.codec} {track.action}" for track in report.audio) or "none"
            tell(
                f"  foreground {report.coverage:.1%}, flicker {report.flicker:.4f}, sound: {sound}",
                f"  {report.runtime}; processor time in ms a frame: {costs}",
                f"  {report.bytes} bytes, sha256 {report.sha256}",
            )
        if self.asked.explain:
            tell(*_explained(report))

    def _failed(self, job: OutputJob, error: ForemaskError) -> None:
        self.failures.append((job, error))
        self.outcomes.append("failed")
        exists = self._existing()
        if job in exists:
            error.cli_remedy = EXISTS_REMEDY
        if job not in exists[1:]:  # of several, the first says it
            show_error(error, self.command, "" if self.is_one else job.source.named)
        if self.asked.as_json:
            facts = {"reason": error.reason, "details": error.details}
            self._answer_json(job, {"outcome": "failed", "error": facts})

    def _existing(self) -> list[OutputJob]:
        """The jobs that failed since their output exists and no option says what to do."""
        if self.asked.skip_existing:
            return []
        return [job for job, error in self.failures if isinstance(error, OutputExists)]

    def _answer_json(self, job: OutputJob, facts: dict[str, Any]) -> None:
        print_json({"input": job.source.named, "output": str(job.target)} | facts, indent=None)

    def _note_stop(self) -> None:
        text = "stopped"
        if self.reached:
            text += f" at {self.reached}"
        if self.cache is not None and self.product.mask is None:
            note(f"{text}; the same command goes on")
        else:
            note(f"{text}; the same command begins anew")

    def _summarise(self, how: str) -> None:
        if self.is_one:
            if how == "stopped":
                self._note_stop()
            return
        if self.asked.quiet and not self.failures:
            return
        counts = Counter(self.outcomes)
        counts["not begun"] = len(self.jobs) - self.begun
        counts["broken off"] = self.begun - len(self.outcomes)
        text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        if how == "stopped" and self.asked.skip_existing:
            text += "; the same command goes on"
        elif how == "stopped":
            text += "; the same command with --skip-existing goes on"
        lines = [f"{how}: {text}"]
        exists = self._existing()
        if exists:
            lines.append(
                f"  failed: {len(exists)} outputs exist already [{OutputExists.usual_reason}]"
            )
        lines += [
            f"  failed: {job.source.named} [{error.reason}]"
            for job, error in self.failures
            if job not in exists
        ]
        note(*lines)


def _costs(report: Report) -> str:
    """The processor time of each stage, the longest first, and of all together."""
    stages = sorted(report.stage_cpu_s.items(), key=lambda each: -each[1])
    named = [("all", sum(report.stage_cpu_s.values())), *stages]
    ms_per_s = 1000 / max(1, report.frames_in)
    return ", ".join(f"{stage} {cost * ms_per_s:.1f}" for stage, cost in named)


def _explained(report: Report) -> list[str]:
    """The pipeline's stages in their order: what waited before each, and what each took."""
    ms_per_s = 1000 / max(1, report.frames_in)
    lines = ["  stage         CPU ms a frame   waiting before it"]
    for each in report.pipeline:
        waited = ""
        if each.waiting is not None:
            waited = f"   {each.waiting:.1f} of {each.room}"
        lines.append(f"  {each.stage:<14}{each.cpu_s * ms_per_s:>14.1f}{waited}")
    libraries_ms = report.stage_cpu_s.get("libraries", 0.0) * ms_per_s
    lines.append(f"  {'libraries':<14}{libraries_ms:>14.1f}   (threads of the network and codecs)")
    return lines
