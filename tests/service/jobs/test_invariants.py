import asyncio
from collections.abc import Coroutine
from typing import Any, LiteralString

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from foremask.errors import CorruptVideo, Failed
from foremask.service.jobs import records, steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database, Params, Row
from foremask.service.jobs.life import Event, Status
from foremask.service.jobs.tokens import TokenLimits, create_token, token_hash
from tests.support.jobs import new_job, report_of
from tests.support.patience import PATIENT

LEASE_S = 1000.0  # only `pause` lets one run out
DAY_S = 86400.0
PICK = st.integers(0, 1 << 16)


class Service(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.database = Database(self.url, connections=2, **PATIENT)
        self.do(self.database.__aenter__())
        self.secret, token = self.do(
            create_token(self.database, "any", TokenLimits(concurrent=10_000))
        )
        self.token_id = token.id
        self.jobs: dict[str, int] = {}
        self.began: list[steps.Step] = []
        self.holder: dict[str, steps.Step] = {}
        self.paused: set[str] = set()
        self.ended: dict[str, records.Record] = {}

    def do[T](self, asked: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asked)

    def ask(self, statement: LiteralString, params: Params = ()) -> list[Row]:
        return self.do(self.database.all(statement, params))

    def record(self, job: str) -> records.Record:
        return self.do(records.read(self.database, token_hash(self.secret), job))

    def holds(self, step: steps.Step) -> bool:
        held = self.holder.get(step.name)
        return held is not None and held.key == step.key

    @rule(segments=st.integers(1, 6), webhook=st.booleans())
    def submit(self, segments: int, webhook: bool) -> None:
        new = new_job(self.token_id, webhook_url="https://example.org/hook" if webhook else None)
        self.jobs[self.do(admit(self.database, new))] = segments

    @precondition(lambda self: self.jobs)
    @rule(queue=st.sampled_from(["files", "masks"]))
    def begin(self, queue: str) -> None:
        step = self.do(steps.claim(self.database, queue, "worker", LEASE_S))
        if step is not None:
            assert step.name not in self.holder
            assert step.job not in self.ended
            self.began.append(step)
            self.holder[step.name] = step

    @precondition(lambda self: self.began)
    @rule(pick=PICK)
    def finish(self, pick: int) -> None:
        step = self.began[pick % len(self.began)]
        self.let_go(step, self.do(steps.finish(self.database, step, self.result(step))))

    def let_go(self, step: steps.Step, taken: bool) -> None:
        assert taken == self.holds(step)
        if taken:
            del self.holder[step.name]
            self.paused.discard(step.name)

    def result(self, step: steps.Step) -> steps.StepDone:
        mine = f"{step.name}/{step.attempt}"
        segments = self.jobs[step.job]
        if step.stage == "ingest":
            args = tuple(steps.StoredSegment(key=str(n)) for n in range(segments))
            return steps.IngestDone(steps.JobClip(frames=segments), mine, args)
        if step.stage == "segment" and segments > 1:
            return steps.PartDone(mine, report_of(1))
        return steps.MaskDone(mine, report_of(segments))

    @precondition(lambda self: self.began)
    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        step = self.began[pick % len(self.began)]
        held = self.holds(step)
        kept = self.do(steps.renew(self.database, [steps.Beat(step, 1)], LEASE_S))
        assert bool(kept) == held
        if held:
            self.paused.discard(step.name)

    @precondition(lambda self: self.began)
    @rule(pick=PICK, crashed=st.booleans())
    def fail(self, pick: int, crashed: bool) -> None:
        step = self.began[pick % len(self.began)]
        reported = steps.fail(
            self.database,
            step,
            Failed("crashed", reason="worker_crashed") if crashed else CorruptVideo("broken"),
            Event.CRASHED if crashed else Event.FAILED,
        )
        self.let_go(step, self.do(reported))

    @precondition(lambda self: self.holder)
    @rule(pick=PICK)
    def pause(self, pick: int) -> None:
        step = list(self.holder.values())[pick % len(self.holder)]
        self.ask(
            """update steps set lease_until = now() - interval '1 second'
               where job = %s and stage = %s and number = %s""",
            (step.job, step.stage, step.number),
        )
        self.paused.add(step.name)

    @rule()
    def recover(self) -> None:
        self.ask("update steps set touched_at = touched_at - interval '1 minute'")
        self.ask("update housekeeping set last_at = clock()")  # else a slow run looks like a pause
        recovered = self.do(steps.recover(self.database, DAY_S, LEASE_S))
        assert recovered.lost == len(self.paused)
        for name in self.paused:
            self.holder.pop(name, None)
        self.paused.clear()

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        job = list(self.jobs)[pick % len(self.jobs)]
        before = self.record(job)
        after = self.do(records.cancel(self.database, token_hash(self.secret), job))
        assert after.status is (before.status if before.status.ended else Status.CANCELLED)

    @precondition(lambda self: self.holder)
    @rule(pick=PICK)
    def expire(self, pick: int) -> None:
        job = list(self.holder.values())[pick % len(self.holder)].job
        self.ask(
            "update jobs set deadline_from = deadline_from - interval '2 days' where id = %s",
            (job,),
        )
        self.recover()
        record = self.record(job)
        assert record.error is not None
        assert record.error.reason in ("timed_out", "worker_crashed")

    @invariant()
    def an_end_is_an_end(self) -> None:
        for job in self.jobs.keys() - self.ended.keys():
            record = self.record(job)
            if record.status.ended:
                self.ended[job] = record
                for step in [each for each in self.holder.values() if each.job == job]:
                    self.let_go(step, taken=True)

    def teardown(self) -> None:
        for _ in range(100):
            self.an_end_is_an_end()
            if len(self.ended) == len(self.jobs):
                break
            self.recover()
            for queue in ("files", "masks") * 4:
                self.begin(queue)
            for step in [each for each in self.began if self.holds(each)]:
                self.finish(self.began.index(step))
        assert len(self.ended) == len(self.jobs)
        (token,) = self.ask("select used, unfinished from tokens where id = %s", (self.token_id,))
        assert token == {"used": len(self.jobs), "unfinished": 0}
        for job, record in self.ended.items():
            assert self.record(job) == record
        assert not self.ask(
            """select job from attempts where job = any(%s) and outcome = 'done'
               group by job, stage, number having count(*) > 1""",
            (list(self.jobs),),
        ), "done twice"
        assert not self.ask(
            """select j.id from jobs j where j.id = any(%s)
               and (j.webhook_url is not null)::int <> (
                   select count(*) from deliveries d where d.job = j.id)""",
            (list(self.jobs),),
        ), "a webhook is not owed, or owed twice"
        for job, record in self.ended.items():
            if record.status is Status.COMPLETED:
                done = {
                    f"{job}/{a.stage}-{a.number}/{a.attempt}"
                    for a in self.do(records.history(self.database, job))
                    if a.outcome == "done"
                }
                assert record.result_key in done
        self.do(self.database.__aexit__())
        self.loop.close()


def test_every_job_ends_once(database_url: str) -> None:
    Service.url = database_url
    run_state_machine_as_test(
        Service,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
