-- The life of a job. Every function takes the job's row first, so that two of them never decide at once,
-- and every write of a worker names its attempt: what comes from an attempt that lost its lease is refused.

create function wake_delivery(p_delivery bigint, p_delay_s float8) returns void language plpgsql as $$
declare
    v_name text := 'delivery:' || p_delivery;
begin
    if not exists (select from procrastinate_jobs where queueing_lock = v_name and status = 'todo') then
        perform procrastinate_defer_jobs_v1(array[row(
            'webhooks', 'deliver', 0, null, v_name, jsonb_build_object('delivery', p_delivery),
            case when p_delay_s > 0 then now() + make_interval(secs => p_delay_s) end
        )::procrastinate_job_to_defer_v1]);
    end if;
end $$;

create function new_delivery(p_job text, p_url text, p_payload bytea) returns bigint language plpgsql as $$
declare
    v_id bigint;
begin
    insert into deliveries (job, url, payload) values (p_job, p_url, p_payload) returning id into v_id;
    perform wake_delivery(v_id, 0);
    return v_id;
end $$;

-- The one place where a job ends. The caller holds the job's row; an ended job is left as it is.
create function end_job(p_job text, p_status text, p_error jsonb, p_result_key text, p_report jsonb)
returns boolean language plpgsql as $$
declare
    v_url text;
    v_token uuid;
begin
    update jobs set status = p_status, stage = p_status, error = p_error, result_key = p_result_key,
        report = p_report, ended_at = clock_timestamp(), video_url = null
    where id = p_job and status in ('queued', 'running') returning webhook_url, token into v_url, v_token;
    if not found then
        return false;
    end if;
    update tokens set unfinished = unfinished - 1 where id = v_token;
    update attempts a set ended_at = clock_timestamp(), outcome = 'dropped'
    where a.job = p_job and a.ended_at is null;
    update steps set status = 'dropped' where job = p_job and status <> 'done';
    if v_url is not null then
        perform new_delivery(p_job, v_url, null);
    end if;
    return true;
end $$;

create function begin_step(p_job text, p_stage text, p_number integer, p_worker text, p_lease_s float8)
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
    return query select j.token, s.attempt, s.args, j.video_url, j.source_key, j.preset, j.quality, j.clip,
        coalesce(j.started_at, clock_timestamp());
end $$;

create function finish_step(
    p_job text, p_stage text, p_number integer, p_attempt integer, p_result jsonb, p_in_flight integer)
returns boolean language plpgsql as $$
declare
    j jobs;
    v_next integer;
begin
    select * into j from jobs where id = p_job for update;
    update steps set status = 'done', result = p_result, lease_until = null,
        frames_done = coalesce((p_result ->> 'frames')::bigint, frames_done)
    where job = p_job and stage = p_stage and number = p_number and attempt = p_attempt and status = 'running';
    if not found then
        return false;                                    -- a stale attempt, or the job is over
    end if;
    update attempts a set ended_at = clock_timestamp(), outcome = 'done'
    where a.job = p_job and a.stage = p_stage and a.number = p_number and a.attempt = p_attempt;
    if p_stage = 'ingest' then
        update jobs set clip = p_result -> 'clip', source_key = p_result ->> 'source_key',
            frames_total = coalesce((p_result -> 'clip' ->> 'frames')::bigint, frames_total)
        where id = p_job;
        insert into steps (job, stage, number, status, args)
        select p_job, 'segment', ordinality - 1, case when ordinality <= p_in_flight then 'todo' else 'waiting' end, value
        from jsonb_array_elements(p_result -> 'segments') with ordinality;
        perform wake_step(p_job, 'segment', number, j.priority, 0)
        from (select number from steps where job = p_job and stage = 'segment' and status = 'todo' order by number) first;
    elsif p_stage = 'segment' and p_result ? 'result_key' then
        perform end_job(p_job, 'completed', null, p_result ->> 'result_key', p_result -> 'report');
    elsif p_stage = 'segment' then
        update steps set status = 'todo', touched_at = clock_timestamp()
        where job = p_job and stage = 'segment' and number = (
            select min(number) from steps where job = p_job and stage = 'segment' and status = 'waiting')
        returning number into v_next;
        if found then
            perform wake_step(p_job, 'segment', v_next, j.priority, 0);
        elsif not exists (select from steps where job = p_job and stage = 'segment' and status <> 'done') then
            insert into steps (job, stage, status) values (p_job, 'join', 'todo');  -- the key allows one
            perform wake_step(p_job, 'join', 0, j.priority, 0);
        end if;
    else
        perform end_job(p_job, 'completed', null, p_result ->> 'result_key', p_result -> 'report');
    end if;
    return true;
end $$;

-- An attempt that did not succeed: again after p_retry_s, or the end of the job when that is null or
-- when it was a crash and there were too many. A step that was given back counts for nothing.
create function fail_step(
    p_job text, p_stage text, p_number integer, p_attempt integer, p_outcome text, p_error jsonb,
    p_retry_s float8, p_max_crashes integer)
returns boolean language plpgsql as $$
declare
    j jobs;
    s steps;
begin
    select * into j from jobs where id = p_job for update;
    select * into s from steps
    where job = p_job and stage = p_stage and number = p_number and attempt = p_attempt and status = 'running';
    if not found then
        return false;
    end if;
    update attempts a set ended_at = clock_timestamp(), outcome = p_outcome, details = p_error ->> 'details'
    where a.job = p_job and a.stage = p_stage and a.number = p_number and a.attempt = p_attempt;
    if p_outcome in ('crashed', 'lost') then
        s.crashes := s.crashes + 1;
    end if;
    if p_retry_s is null or s.crashes >= p_max_crashes then
        perform end_job(p_job, 'failed', p_error, null, null);
    else
        update steps set status = 'todo', crashes = s.crashes, lease_until = null, frames_done = 0,
            worker = null, touched_at = clock_timestamp()
        where job = p_job and stage = p_stage and number = p_number;
        perform wake_step(p_job, p_stage, p_number, j.priority, p_retry_s);
    end if;
    return true;
end $$;

create function cancel_job(p_token uuid, p_job text, p_error jsonb) returns boolean language plpgsql as $$
begin
    perform from jobs where id = p_job and token = p_token for update;
    return found and end_job(p_job, 'cancelled', p_error, null, null);
end $$;

-- What nobody looks after: expired leases, steps and deliveries without an engine row, jobs over their
-- time. One caller at a time; the others return at once.
create function tend(p_lease_s float8, p_patience_s float8, p_wall_clock_s float8, p_max_crashes integer,
                     p_crashed jsonb, p_timed_out jsonb)
returns table (lost integer, woken integer, timed_out integer) language plpgsql as $$
declare
    v_last timestamptz;
    v_now timestamptz := clock_timestamp();
    r record;
begin
    lost := 0; woken := 0; timed_out := 0;
    select last_at into v_last from housekeeping for update skip locked;
    if not found then
        return;
    end if;
    update housekeeping set last_at = v_now;
    if v_now - v_last > make_interval(secs => p_lease_s / 2) then
        -- The database, or every worker, was away: a lease that ran out meanwhile proves nothing.
        update steps set lease_until = v_now + make_interval(secs => p_lease_s) where status = 'running';
        return next;
        return;
    end if;
    for r in
        select s.job, s.stage, s.number, s.attempt, s.worker from steps s
        where s.status = 'running' and s.lease_until < v_now order by s.lease_until limit 200
    loop
        perform from jobs where id = r.job for update skip locked;
        continue when not found;
        perform from steps where job = r.job and stage = r.stage and number = r.number
            and attempt = r.attempt and status = 'running' and lease_until < v_now;
        continue when not found;                         -- renewed in the meantime
        perform fail_step(r.job, r.stage, r.number, r.attempt, 'lost', p_crashed, 0, p_max_crashes);
        lost := lost + 1;
    end loop;
    for r in
        select s.job, s.stage, s.number, j.priority from steps s join jobs j on j.id = s.job
        where s.status = 'todo' and s.touched_at < v_now - make_interval(secs => p_patience_s)
        and not exists (select from procrastinate_jobs p
            where p.queueing_lock = s.job || ':' || s.stage || ':' || s.number and p.status = 'todo')
        order by s.touched_at limit 200 for update of s skip locked
    loop
        perform wake_step(r.job, r.stage, r.number, r.priority, 0);
        update steps set touched_at = v_now where job = r.job and stage = r.stage and number = r.number;
        woken := woken + 1;
    end loop;
    for r in
        select d.id from deliveries d
        where d.status = 'pending' and d.next_at < v_now - make_interval(secs => p_patience_s)
        and not exists (select from procrastinate_jobs p
            where p.queueing_lock = 'delivery:' || d.id and p.status = 'todo')
        order by d.next_at limit 200 for update skip locked
    loop
        perform wake_delivery(r.id, 0);
        woken := woken + 1;
    end loop;
    for r in
        select id from jobs where status = 'running'
        and started_at < v_now - make_interval(secs => p_wall_clock_s) limit 200 for update skip locked
    loop
        perform end_job(r.id, 'failed', p_timed_out, null, null);
        timed_out := timed_out + 1;
    end loop;
    return next;
end $$;
