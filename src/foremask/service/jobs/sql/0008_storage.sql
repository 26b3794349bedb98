-- What each token has stored: uploads, the sources and segments of unfinished jobs, results (docs/adr/0091).

alter table tokens add column stored bigint not null default 0;
alter table jobs add column stored bigint not null default 0;

create table uploads (
    key     text primary key,
    token   uuid not null references tokens on delete cascade,
    bytes   bigint not null default 0,                  -- reserved before they come, exact afterwards
    made_at timestamptz not null default now()
);
create index uploads_made on uploads (made_at);

-- What a job has stored follows from its row: its source and the segments cut from it until it is swept, its
-- result until that expires.
create function count_stored() returns trigger language plpgsql as $$
begin
    new.stored := case when new.swept_at is not null then 0
            when new.source_key like 'uploads/%' then 1 else 2 end
        * coalesce((new.clip ->> 'size_bytes')::bigint, 0)
        + case when new.expired_at is not null or new.result_key is null then 0
            else coalesce((new.report ->> 'bytes')::bigint, 0) end;
    if tg_op = 'INSERT' then
        update tokens set stored = stored + new.stored where id = new.token and new.stored <> 0;
    elsif new.stored <> old.stored then
        update tokens set stored = stored + new.stored - old.stored where id = new.token;
    end if;
    return new;
end $$;
create trigger count_stored before insert or update of clip, source_key, report, result_key, swept_at, expired_at
    on jobs for each row execute function count_stored();
update jobs set clip = clip;

-- Set the bytes of an upload. Not ok when the token would have more than p_most; a key that nobody knows is not counted.
create function reserve_upload(p_key text, p_bytes bigint, p_most bigint)
returns table (ok boolean, counted bigint) language plpgsql as $$
declare
    u uploads;
    t tokens;
begin
    select * into u from uploads where key = p_key;
    if not found then
        return query select true, 0::bigint;
        return;
    end if;
    select * into t from tokens where id = u.token for no key update;
    select * into u from uploads where key = p_key;      -- nobody changes it while the token is ours
    if p_bytes > u.bytes and t.stored - u.bytes + p_bytes > p_most then
        return query select false, t.stored;
        return;
    end if;
    update uploads set bytes = p_bytes where key = p_key;
    update tokens set stored = stored - u.bytes + p_bytes where id = u.token;
    return query select true, t.stored - u.bytes + p_bytes;
end $$;

-- Forget uploads that are no longer stored.
create function forget_uploads(p_before timestamptz) returns integer language plpgsql as $$
declare
    r record;
    n integer := 0;
begin
    for r in select key from uploads where made_at < p_before order by made_at limit 1000 loop
        perform reserve_upload(r.key, 0, 0);
        delete from uploads where key = r.key;
        n := n + 1;
    end loop;
    return n;
end $$;

drop function admit(text, uuid, text, text, text, text, text, text, bytea, jsonb, integer);
create function admit(
    p_id text, p_token uuid, p_video_url text, p_source_key text, p_preset text, p_quality text,
    p_webhook_url text, p_idempotency_key text, p_body_hash bytea, p_clip jsonb, p_queue_limit integer,
    p_storage_limit bigint)
returns table (outcome text, request_id text, allowed bigint, counted bigint)
language plpgsql as $$
declare
    t tokens;
    j jobs;
    n bigint;
begin
    select * into t from tokens where id = p_token for no key update;
    if not found or t.revoked_at is not null or t.expires_at <= clock_timestamp() then
        return query select 'invalid', null::text, 0::bigint, 0::bigint;
        return;
    end if;
    -- The same request again: by its key, or by its id when an answer was lost on its way here.
    select * into j from jobs
    where id = p_id or (token = p_token and idempotency_key = p_idempotency_key) limit 1;
    if found then
        return query select case when j.id = p_id then 'admitted'
            when j.body_hash = p_body_hash then 'replayed' else 'mismatch' end, j.id, 0::bigint, 0::bigint;
        return;
    end if;
    if t.used >= t.quota then
        return query select 'quota', null::text, t.quota, t.used;
        return;
    end if;
    if t.unfinished >= t.concurrent then
        return query select 'concurrent', null::text, t.concurrent::bigint, t.unfinished;
        return;
    end if;
    n := t.stored + 2 * coalesce((p_clip ->> 'size_bytes')::bigint, 0);
    if n > p_storage_limit then
        return query select 'storage', null::text, p_storage_limit, n;
        return;
    end if;
    select sum(unfinished) into n from tokens;
    if n >= p_queue_limit then
        return query select 'queue', null::text, p_queue_limit::bigint, n;
        return;
    end if;
    -- The lock on the token ends with the commit and not with the disk: the caller waits for that (0021).
    perform set_config('synchronous_commit', 'off', true);
    insert into jobs (id, token, priority, video_url, source_key, preset, quality, webhook_url,
                      idempotency_key, body_hash, clip, frames_total)
    values (p_id, p_token, t.priority, p_video_url, p_source_key, p_preset, p_quality, p_webhook_url,
            p_idempotency_key, p_body_hash, p_clip, (p_clip ->> 'frames')::bigint);
    insert into steps (job, stage, status) values (p_id, 'ingest', 'todo');
    perform wake_step(p_id, 'ingest', 0, t.priority, 0);
    update tokens set used = used + 1, unfinished = unfinished + 1 where id = p_token;
    return query select 'admitted', p_id, 0::bigint, 0::bigint;
end $$;
