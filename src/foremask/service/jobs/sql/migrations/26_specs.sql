-- From version 16 (commit 427503c) or a later one to 26; changes that were made before are skipped. Drops the functions
-- named here and the triggers that call them; functions.sql then makes the new ones.

do $$
declare
    r record;
begin
    for r in select oid::regprocedure as name from pg_proc
        where pronamespace = current_schema()::regnamespace and regexp_replace(proname, '_[0-9]+$', '') in (
            'admit', 'begin_delivery', 'begin_step', 'cancel_job', 'charge_rate', 'claim_step', 'count_stored',
            'delivery_ended', 'early_by', 'end_job', 'fail_step', 'fill_delivery', 'fill_step', 'find_keyed',
            'finish_step', 'forget_newest_mask', 'forget_uploads', 'forget_urls', 'lock_deliveries_of', 'name_job',
            'new_delivery', 'note_fetched', 'recover', 'redeliver', 'renew_steps', 'report_process', 'reserve_result',
            'reserve_upload', 'step_ended', 'swap_wake_up', 'take_delivery', 'tell_counts', 'tend', 'wake_delivery',
            'wake_step')
    loop
        execute 'drop function ' || r.name || ' cascade';
    end loop;
end $$;

drop table if exists received, delivery_attempts;
alter table jobs add column if not exists deadline_from timestamptz,
    add column if not exists reserved bigint not null default 0;
update jobs set deadline_from = started_at where status = 'running' and deadline_from is null;
alter table steps add column if not exists moved_at timestamptz, add column if not exists ends_at timestamptz,
    alter column token set not null, alter column seq set not null, drop column if exists worker;
update steps set moved_at = now() where status = 'running' and moved_at is null;
-- Up to version 25, what a job makes was in the columns preset, quality and result. A job that reused a stored mask
-- had the quality 'kept', the mask's key in source_key, and the clip's key in its step or in result.
alter table jobs add column if not exists spec jsonb, add column if not exists mask_key text,
    add column if not exists background_url text, add column if not exists background_key text,
    add column if not exists network_key text, add column if not exists key_points integer not null default 0;
do $$
begin
    if not exists (select from information_schema.columns where table_schema = current_schema()
            and table_name = 'jobs' and column_name = 'result') then
        return;
    end if;
    -- A hint with a time must not have a frame; older versions stored frame 0.
    update jobs set result = jsonb_set(result, '{hints}', (
        select jsonb_agg(case when jsonb_typeof(hint -> 'time_s') = 'number' then hint - 'frame' else hint end
            order by n)
        from jsonb_array_elements(result -> 'hints') with ordinality as h (hint, n)))
    where jsonb_array_length(result -> 'hints') > 0;
    -- APNG and WebP can no longer be written. PNG files are also lossless and also never in segments.
    update jobs set preset = 'png_zip' where preset in ('apng', 'webp');
    update jobs j set
        spec = jsonb_strip_nulls(coalesce(result -> 'options', '{}') || jsonb_build_object(
            'form', preset, 'quality', nullif(quality, 'kept'), 'hints', result -> 'hints')),
        mask_key = case when quality = 'kept' then source_key end,
        source_key = case when quality <> 'kept' then source_key else coalesce(
            (select args ->> 'source_key' from steps where job = j.id and stage = 'segment' and number = 0),
            result ->> 'clip_key') end,
        background_url = result ->> 'background_url',
        background_key = coalesce(
            (select args ->> 'background_key' from steps where job = j.id and stage = 'segment' and number = 0),
            result ->> 'background_key'),
        network_key = result ->> 'network_key',
        key_points = coalesce((result ->> 'key_points')::integer, 0);
    update steps set args = jsonb_strip_nulls(jsonb_build_object('span', args -> 'span',
        'key', case when args ? 'span' then args -> 'source_key' end));
end $$;
alter table jobs alter column spec set not null, drop column if exists preset, drop column if exists quality,
    drop column if exists result;
-- For a GIF, PNGs or a zoom, clips are no longer cut into segments. Running jobs with segments start masking again.
with cut as (
    select id from jobs j where status = 'running' and exists (select from steps where job = j.id and number > 0)
    and (spec ->> 'form' in ('gif', 'png_zip') or spec ->> 'auto_zoom' = 'true')),
gone as (delete from steps using cut where job = id and (number > 0 or stage = 'join'))
update steps set status = 'todo', args = '{}', result = null, lease_until = null,
    touched_at = now() from cut where job = id and stage = 'segment' and number = 0;
drop index if exists steps_files_running;
create index if not exists steps_files on steps (token) where status in ('todo', 'running') and stage <> 'segment';
alter table deliveries alter column token set not null;
alter table queues add column if not exists per_token integer;
insert into queues (queue) values ('webhooks') on conflict do nothing;
update queues set per_token = 4 where queue in ('files', 'webhooks');
alter table processes drop column if exists told, drop column if exists name, set (fillfactor = 50),
    add column if not exists report bigint not null default 0;
alter table uploads add column if not exists claim text;
alter table housekeeping add column if not exists worker text;
