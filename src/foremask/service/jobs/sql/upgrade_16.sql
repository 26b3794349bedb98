-- From the tables of commit 427503c (versions 1 to 16 were sixteen scripts). Its functions, and the triggers that call
-- them, go; those of schema.sql come afterwards. The engine's rows go too: `recover` sends tickets for what waits.

do $$
declare
    r record;
begin
    for r in select oid::regprocedure as name from pg_proc
        where pronamespace = current_schema()::regnamespace and proname in (
            'admit', 'begin_delivery', 'begin_step', 'cancel_job', 'charge_rate', 'claim_step', 'count_stored',
            'delivery_ended', 'end_job', 'fail_step', 'fill_delivery', 'fill_step', 'find_keyed', 'finish_step',
            'forget_newest_mask', 'forget_uploads', 'forget_urls', 'lock_deliveries_of', 'name_job', 'new_delivery',
            'note_fetched', 'reserve_upload', 'step_ended', 'swap_wake_up', 'tell_counts', 'tend', 'wake_delivery',
            'wake_step')
    loop
        execute 'drop function ' || r.name || ' cascade';
    end loop;
end $$;

drop table received;
alter table jobs add column deadline_from timestamptz, add column reserved bigint not null default 0;
update jobs set deadline_from = started_at where status = 'running';
alter table steps add column moved_at timestamptz, alter column token set not null, alter column seq set not null;
update steps set moved_at = now() where status = 'running';
drop index steps_files_running;
create index steps_files on steps (token) where status in ('todo', 'running') and stage <> 'segment';
alter table deliveries alter column token set not null;
alter table queues add column per_token integer;
insert into queues (queue) values ('webhooks');
update queues set per_token = 4 where queue in ('files', 'webhooks');
alter table processes drop column told, add column report bigint not null default 0, set (fillfactor = 50);
delete from procrastinate_jobs;
