-- From version 26 to 27: workers listen to PostgreSQL and claim steps, without Procrastinate (docs/adr/0020). Drops its
-- tables, functions and types, and the functions of ours whose arguments change.

do $$
declare r record;
begin
    for r in select oid::regprocedure as name from pg_proc
        where pronamespace = current_schema()::regnamespace and (proname like 'procrastinate\_%' or proname in (
            'admit', 'begin_step', 'claim_step_26', 'delivery_ended', 'end_job', 'fail_step', 'files_of',
            'finish_step', 'pass_ticket', 'recover_26', 'send_ticket'))
    loop
        execute 'drop function ' || r.name || ' cascade';
    end loop;
end $$;
drop table if exists procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs, procrastinate_workers;
drop type if exists procrastinate_job_to_defer_v1, procrastinate_job_event_type, procrastinate_job_status;
delete from schema_scripts where name like 'procrastinate/%';

drop index if exists steps_todo, steps_files;
create index if not exists steps_ready on steps ((stage = 'segment'), touched_at) where status = 'todo';

-- A report has all fields of `Report` (facts.py). Those of conversions lacked what they did not measure.
create function pg_temp.whole(p_report jsonb, p_kind text) returns jsonb language sql as $$
    select jsonb_build_object('frames_in', p_report -> 'frames_out', 'duration_s', 0, 'fps', 0, 'duration_drift_ms', 0,
        'audio', '[]'::jsonb, 'warnings', '[]'::jsonb, 'coverage', 0, 'flicker', 0, 'runtime', '',
        'stage_cpu_s', '{}'::jsonb, 'sha256', '', 'bytes', 0, 'kind', coalesce(p_kind, 'mask')) || p_report
$$;
update jobs set report = pg_temp.whole(report, spec ->> 'kind') where report is not null;
update steps s set result = jsonb_set(result, '{report}', pg_temp.whole(result -> 'report', spec ->> 'kind'))
from jobs j where j.id = s.job and s.result ? 'report';
