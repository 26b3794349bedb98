-- What is stored besides a job's clip and its result (docs/adr/0153): what is fetched for it, a background or the
-- clip of a stored mask, until the job is swept; and the mask that a cut-out was made by, as long as the cut-out.

alter table jobs add column fetched bigint not null default 0;

create or replace function count_stored() returns trigger language plpgsql as $$
begin
    new.stored := case when new.swept_at is not null then 0
            else new.fetched + case when new.source_key like 'uploads/%' then 1 else 2 end
                * coalesce((new.clip ->> 'size_bytes')::bigint, 0) end
        + case when new.expired_at is not null or new.result_key is null then 0
            else coalesce((new.report ->> 'bytes')::bigint, 0)
                + coalesce((new.report ->> 'mask_bytes')::bigint, 0) end;
    if tg_op = 'INSERT' then
        update tokens set stored = stored + new.stored where id = new.token and new.stored <> 0;
    elsif new.stored <> old.stored then
        update tokens set stored = stored + new.stored - old.stored where id = new.token;
    end if;
    return new;
end $$;
create or replace trigger count_stored
    before insert or update of clip, source_key, report, result_key, swept_at, expired_at, fetched
    on jobs for each row execute function count_stored();

-- Ingest knows exactly what was fetched. What it answers is written to the step, by finish_step, in one transaction.
create function note_fetched() returns trigger language plpgsql as $$
begin
    update jobs set fetched = (new.result ->> 'fetched_bytes')::bigint where id = new.job;
    return null;
end $$;
create trigger note_fetched after update of result on steps for each row
    when (new.stage = 'ingest' and new.status = 'done' and new.result ? 'fetched_bytes')
    execute function note_fetched();

create function admit(
    p_id text, p_token uuid, p_video_url text, p_source_key text, p_preset text, p_quality text,
    p_webhook_url text, p_idempotency_key text, p_body_hash bytea, p_clip jsonb, p_queue_limit integer,
    p_storage_limit bigint, p_traceparent text, p_result jsonb, p_fetched bigint)
returns table (outcome text, request_id text, allowed bigint, counted bigint)
language plpgsql as $$
begin
    return query
        select a.outcome, a.request_id,
            a.allowed + case a.outcome when 'storage' then p_fetched else 0 end,
            a.counted + case a.outcome when 'storage' then p_fetched else 0 end
        from admit(p_id, p_token, p_video_url, p_source_key, p_preset, p_quality, p_webhook_url, p_idempotency_key,
            p_body_hash, p_clip, p_queue_limit, p_storage_limit - p_fetched, p_traceparent, p_result) a;
    if p_fetched > 0 then                                -- nothing to do where the job was not made
        update jobs set fetched = p_fetched where id = p_id and fetched = 0 and ended_at is null;
    end if;
end $$;
