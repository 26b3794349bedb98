-- Admission: each question is one call, decided under the token's row lock and committed by the server.
-- A caller that is killed or paused half-way leaves nothing open (docs/adr/0021).

-- An engine row that wakes a worker for one step; none while one is waiting already. Within a token's
-- priority, what was begun before and was lost comes first, and joins before new clips.
create function wake_step(p_job text, p_stage text, p_number integer, p_priority integer, p_delay_s float8)
returns void language plpgsql as $$
declare
    v_name text := p_job || ':' || p_stage || ':' || p_number;
    v_rank integer := 4 * p_priority + case p_stage when 'join' then 2 else 0 end;
begin
    if exists (select from procrastinate_jobs where queueing_lock = v_name and status = 'todo') then
        return;
    end if;
    if exists (select from steps where job = p_job and stage = p_stage and number = p_number and attempt > 0) then
        v_rank := v_rank + 1;
    end if;
    perform procrastinate_defer_jobs_v1(array[row(
        case when p_stage = 'segment' then 'masks' else 'files' end, p_stage, v_rank, null, v_name,
        jsonb_build_object('job', p_job, 'number', p_number),
        case when p_delay_s > 0 then now() + make_interval(secs => p_delay_s) end
    )::procrastinate_job_to_defer_v1]);
end $$;

-- GCRA, with one timestamp per token: the request is due at due_at and may come burst - 1 steps early.
create function charge_rate(p_hash bytea)
returns table (outcome text, token uuid, priority smallint, allowed integer, remaining integer, wait_s float8, reset_s float8)
language plpgsql as $$
declare
    t tokens;
    v_now timestamptz;
    v_step interval;
    v_early interval;
begin
    select * into t from tokens where hash = p_hash for no key update;
    v_now := clock_timestamp();                          -- after the lock: waiting for it took time
    if not found or t.revoked_at is not null or t.expires_at <= v_now then
        return query select 'invalid', null::uuid, 0::smallint, 0, 0, 0::float8, 0::float8;
        return;
    end if;
    if t.used >= t.quota then
        return query select 'quota', t.id, t.priority, t.quota::integer, 0, 0::float8, 0::float8;
        return;
    end if;
    v_step := interval '1 minute' / t.rate_per_minute;
    v_early := greatest(t.due_at, v_now) - v_now;
    if v_early > v_step * (t.burst - 1) then
        return query select 'rate', t.id, t.priority, t.burst, 0,
            extract(epoch from v_early - v_step * (t.burst - 1))::float8, extract(epoch from v_early)::float8;
        return;
    end if;
    perform set_config('synchronous_commit', 'off', true);  -- a tick lost in a power cut harms nobody
    update tokens set due_at = v_now + v_early + v_step where id = t.id;
    return query select 'ok', t.id, t.priority, t.burst,
        floor(extract(epoch from v_step * (t.burst - 1) - v_early) / extract(epoch from v_step))::integer,
        0::float8, extract(epoch from v_early + v_step)::float8;
end $$;

create function admit(
    p_id text, p_token uuid, p_video_url text, p_source_key text, p_preset text, p_quality text,
    p_webhook_url text, p_idempotency_key text, p_body_hash bytea, p_clip jsonb, p_queue_limit integer)
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
