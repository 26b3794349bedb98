-- What a job makes of its clip besides a mask (docs/adr/0126): null for a plain mask. A background's URL is forgotten
-- when the job ends, as the clip's is: it may hold a secret.

alter table jobs add column result jsonb;

create function forget_urls() returns trigger language plpgsql as $$
begin
    new.result := new.result - 'background_url';
    return new;
end $$;
create trigger forget_urls before update of ended_at on jobs for each row
    when (new.ended_at is not null and new.result is not null) execute function forget_urls();

create function admit(
    p_id text, p_token uuid, p_video_url text, p_source_key text, p_preset text, p_quality text,
    p_webhook_url text, p_idempotency_key text, p_body_hash bytea, p_clip jsonb, p_queue_limit integer,
    p_storage_limit bigint, p_traceparent text, p_result jsonb)
returns table (outcome text, request_id text, allowed bigint, counted bigint)
language plpgsql as $$
begin
    return query select * from admit(p_id, p_token, p_video_url, p_source_key, p_preset, p_quality, p_webhook_url,
        p_idempotency_key, p_body_hash, p_clip, p_queue_limit, p_storage_limit, p_traceparent);
    if p_result is not null then                         -- nothing to do where the job was not made
        update jobs set result = p_result where id = p_id and result is null and ended_at is null;
    end if;
end $$;

-- As in 0003; ``args`` has what the job makes, too.
create or replace function begin_step(p_job text, p_stage text, p_number integer, p_worker text, p_lease_s float8)
returns table (token uuid, attempt integer, args jsonb, video_url text, source_key text, preset text, quality text,
               clip jsonb, deadline_from timestamptz)
language plpgsql as $$
declare
    j jobs;
    s steps;
begin
    select * into j from jobs where id = p_job for update;
    if not found or j.status not in ('queued', 'running') then
        return;                                          -- cancelled, or over
    end if;
    update steps set status = 'running', attempt = steps.attempt + 1, worker = p_worker, frames_done = 0,
        lease_until = clock_timestamp() + make_interval(secs => p_lease_s), touched_at = clock_timestamp()
    where job = p_job and stage = p_stage and number = p_number and status = 'todo' returning * into s;
    if not found then
        return;                                          -- somebody else has it
    end if;
    insert into attempts (job, stage, number, attempt, worker, started_at)
    values (p_job, p_stage, p_number, s.attempt, p_worker, clock_timestamp());
    update jobs set status = 'running', stage = p_stage,
        started_at = coalesce(started_at, clock_timestamp()),
        masking_at = case when p_stage = 'segment' then coalesce(masking_at, clock_timestamp()) else masking_at end
    where id = p_job and (status = 'queued' or stage <> p_stage);
    return query select j.token, s.attempt,
        s.args || case when j.result is null then '{}' else jsonb_build_object('result', j.result) end,
        j.video_url, j.source_key, j.preset, j.quality, j.clip, coalesce(j.started_at, clock_timestamp());
end $$;
