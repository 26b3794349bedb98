"""Runs the jobs of `foremask mask` or `cutout`, and prints their outcomes and a summary."""

import logging
import os
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from foremask.cli import standard_streams
from foremask.cli.batch_options import BatchOptions
from foremask.cli.exits import Exit, Usage, exit_code, note, print_json, say, show_error
from foremask.cli.output_maker import Made, Outcome, OutputMaker
from foremask.cli.products import OutputJob, Product, plan_jobs
from foremask.cli.sources import find_sources
from foremask.errors import ForemaskError, Internal, OutputExists
from foremask.facts import Report
from foremask.hints.decoding import as_typed
from foremask.hints.kinds import marked_hints
from foremask.options import Form, Resources
from foremask.settings import read_settings

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
    runs_here = asked.ray is None
    resources = asked.network.resources(runs_here=runs_here)
    resources = replace(resources, tracker_dir=settings.model_dir)
    cache = asked.network.cache_of(is_one=is_one and runs_here)
    if asked.skip_existing and (asked.start or asked.end):
        raise Usage("--skip-existing checks whole masks: leave out --start and --end")
    rate = asked.rate
    if asked.fps is not None and not any(job.source.pictures for job in jobs):
        raise Usage("--fps is of pictures that are a clip: name a folder of them, or %04d.png")
    if any(job.is_sent for job in jobs):
        if asked.skip_existing:
            raise Usage("-o - is always written: leave out --skip-existing")
        standard_streams.check_standard_output(as_json=asked.as_json)
    if not runs_here:
        _check_for_ray(jobs, resources)
    maker = OutputMaker(
        product=product,
        asked=asked,
        spec=spec,
        resources=resources,
        cache=cache,
        rate=rate,
        settings=settings,
        hints_typed=tuple(typed),
    )
    batch = _Batch(command=command, jobs=jobs, asked=asked, maker=maker)
    if asked.ray is None:
        return batch.run()
    from foremask.cli.ray_batch import cluster

    with cluster(asked.ray, asked.network.threads) as batch.cores_of_a_task:
        return batch.run()


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


def _check_for_ray(jobs: list[OutputJob], resources: Resources) -> None:
    if any(job.is_sent or job.source.is_piped for job in jobs):
        raise Usage("--ray takes and makes files that all nodes see: leave out -")
    if resources.device.on_gpu:
        raise Usage(f"--ray masks on processors: leave out --device {resources.device}")


def _is_there(word: str) -> bool:
    return "://" in word or Path(word).exists()


@dataclass(slots=True, kw_only=True)
class _Batch:
    command: str
    jobs: list[OutputJob]
    asked: BatchOptions
    maker: OutputMaker
    failures: list[tuple[OutputJob, ForemaskError]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    cores_of_a_task: int | None = None  # of the Ray cluster; None: the jobs run here
    begun: int = 0
    begun_again: list[OutputJob] = field(default_factory=list)  # by Ray, after a node had died
    reached: str = ""  # how far the job at work has come, as `12 of 300 frames`

    def run(self) -> Exit:
        how = "stopped"
        logging.disable(logging.WARNING if self.asked.quiet else logging.NOTSET)
        try:
            with closing(self._ended()) as ended:
                for job, outcome in ended:
                    self._answer(job, outcome)
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

    def _ended(self) -> Generator[tuple[OutputJob, Outcome]]:
        """Run the jobs, one after the other or on a cluster, and yield each when it has ended."""
        if self.cores_of_a_task is not None:
            from foremask.cli.ray_batch import RayBatch

            yield from RayBatch(
                maker=self.maker,
                jobs=self.jobs,
                cores=self.cores_of_a_task,
                on_begun=self._note_begun,
                on_lost=self._note_lost,
            ).ended()
            return
        for job in self.jobs:
            self.begun += 1
            yield job, self._outcome(job)
            self.reached = ""

    def _note_begun(self, _: OutputJob) -> None:
        self.begun += 1

    def _note_lost(self, job: OutputJob) -> None:
        self.begun_again.append(job)
        if not self.asked.quiet:
            note(f"warning: {job.source.named}: its process or node died; it begins again")

    def _outcome(self, job: OutputJob) -> Outcome:
        label = self.maker.product.bar
        if not self.is_one:
            label = f"{self.begun}/{len(self.jobs)} {job.source.path.name}"
        try:
            return self.maker.make(job, label, self._note_progress)
        except ForemaskError as error:
            return error
        except Exception as error:
            if self.is_one:
                raise
            # A bug that one clip triggers must not stop the other jobs.
            return Internal(f"{type(error).__name__}: {error}")

    def _note_progress(self, progress: "Progress") -> None:
        self.reached = f"{progress.frames_done} frames"
        if progress.frames_total is not None:
            about = "" if progress.total_is_known else "about "
            self.reached = f"{progress.frames_done} of {about}{progress.frames_total} frames"

    def _answer(self, job: OutputJob, outcome: Outcome) -> None:
        if isinstance(outcome, ForemaskError):
            self._failed(job, outcome)
            return
        done = "skipped" if outcome is None else self.maker.product.done
        self.outcomes.append(done)  # before printing, which may raise BrokenPipeError
        if self.asked.as_json:
            facts: dict[str, Any] = {"outcome": done}
            if outcome is not None:
                facts["seconds"] = round(outcome.took_s, 2)
                facts |= msgspec.to_builtins(outcome.report)
                del facts["strip"]  # too long: one row for each frame
            self._answer_json(job, facts)
        elif self.asked.quiet:
            return
        elif outcome is None:
            say(f"{job.target}: is there already, and whole")
        else:
            self._describe(job, outcome)

    def _describe(self, job: OutputJob, made: Made) -> None:
        report = made.report
        took_s = made.took_s
        tell = say
        target = str(job.target)
        if job.is_sent:
            tell = note
            target = "standard output"
        about = ""
        if not self.is_one:
            about = f"{job.source.named}: "
        for remark in report.warnings:
            note(f"warning: {about}{as_typed(remark, self.maker.hints_typed)}")
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
        if self.maker.cache is not None and self.maker.product.mask is None:
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
        counts["begun again"] = len(self.begun_again)
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
