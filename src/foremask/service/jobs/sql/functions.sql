-- The functions of version 27 (schema.py), in which what must happen together is one call. `foremask migrate` makes
-- them anew after the tables. Each call is its own transaction, so a caller that is killed or paused leaves none open
-- (docs/adr/0021). Against deadlocks, all lock a job first, then its token, then its steps in key order. `recover`
-- locks several jobs: in the order of their ids, or only those that are not locked.
-- A `p_change` is a Change of life.py, which says what an event does to a job and its steps.

-- The version of these functions, `VERSION` of schema.py.
create function schema_version() returns integer immutable language sql as $$ select 27 $$;

-- Called by `claim_step` and `recover`, so that a worker of another version does nothing and ends.
create function check_version(p_version integer) returns void language plpgsql as $$
begin
    if p_version <> schema_version() then
        raise exception 'the functions are of version %', schema_version() using errcode = 'undefined_function';
    end if;
end $$;

-- The clock for leases, rates and deadlines. Tests replace this function.
create function clock() returns timestamptz language sql as $$ select clock_timestamp() $$;

-- Whether a token may be used: it is not revoked and has not expired.
create function is_good(t tokens) returns boolean language sql as $$
    select t.revoked_at is null and (t.expires_at is null or t.expires_at > clock())
$$;

-- The sum of the sizes p_names in p_facts; a value that is no number of bytes counts as 0.
create function bytes_of(p_facts jsonb, variadic p_names text[]) returns bigint immutable language sql as $$
    select coalesce(sum((p_facts ->> name)::numeric) filter (where p_facts ->> name ~ '^[0-9]{1,15}$'), 0)::bigint
    from unnest(p_names) name
$$;

-- The queue of the steps of a stage: 'masks' have the neural network, and 'files' the rest.
create function queue_of(p_stage text) returns text immutable language sql as $$
    select case p_stage when 'segment' then 'masks' else 'files' end
$$;

-- Tell the workers that listen that a queue has something to do. Others find it when they next look.
create function wake(p_queue text) returns void language sql as $$ select pg_notify('foremask_' || p_queue, '') $$;

-- Add the steps of a stage, with their arguments. The first p_in_flight are ready, the others wait for those.
create function add_steps(j jobs, p_stage text, p_args jsonb, p_in_flight integer) returns void language sql as $$
    insert into steps (job, stage, number, token, seq, status, args, touched_at)
    select j.id, p_stage, ordinality - 1, j.token, j.seq,
        case when ordinality <= p_in_flight then 'todo' else 'waiting' end, value, clock()
    from jsonb_array_elements(p_args) with ordinality;
    select wake(queue_of(p_stage))
$$;

-- Count a request against the token's rate (GCRA): it is due at due_at, and may come up to burst - 1 intervals early.
-- If due_at is more than burst intervals ahead, the clock was set back, and due_at starts from now. A repeated request
-- (same Idempotency-Key) is allowed and not counted; request_id and body_hash are those of its job.
create function charge_rate(p_hash bytea, p_key text)
returns table (outcome text, token_id uuid, allowed bigint, remaining integer, wait_s float8, reset_s float8,
               request_id text, body_hash bytea)
language plpgsql as $$
declare t tokens; v_step interval; v_early interval;
begin
    select * into t from tokens where hash = p_hash for no key update;
    select j.id, j.body_hash into request_id, body_hash from jobs j where j.token = t.id and idempotency_key = p_key;
    v_step := interval '1 minute' / t.rate_per_minute;
    v_early := t.due_at - clock();
    if v_early not between interval '0' and v_step * t.burst then v_early := interval '0'; end if;
    outcome := case
        when t.id is null or not is_good(t) then 'invalid'
        when request_id is not null then 'ok'
        when t.used >= t.quota then 'quota'
        when v_early > v_step * (t.burst - 1) then 'rate' else 'ok' end;
    token_id := t.id;
    allowed := case outcome when 'quota' then t.quota else t.burst end;
    wait_s := extract(epoch from v_early - v_step * (t.burst - 1));
    if outcome = 'ok' and request_id is null then
        perform set_config('synchronous_commit', 'off', true);  -- a power cut may lose counts
        v_early := v_early + v_step;
        update tokens set due_at = clock() + v_early where id = t.id;
    end if;
    remaining := greatest(0, floor(t.burst - extract(epoch from v_early) / extract(epoch from v_step)));
    reset_s := extract(epoch from v_early);
    return next;
end $$;

-- Insert the job with the columns in p_job and its first step, or return why the job is refused.
create function admit(p_job jsonb, p_change jsonb, p_queue_limit integer, p_storage_limit bigint)
returns table (outcome text, request_id text, allowed bigint, counted bigint) language plpgsql as $$
declare n jobs := jsonb_populate_record(null::jobs, p_job); t tokens; j jobs; v_bytes bigint; v_waiting bigint;
begin
    select * into t from tokens where id = n.token for no key update;
    -- A repeated request has the same Idempotency-Key. A repeated call of this function has the same id.
    select * into j from jobs
    where id = n.id or (token = n.token and idempotency_key = n.idempotency_key) limit 1;
    n.reserved := bytes_of(n.clip, 'size_bytes');  -- a result is about as large as its clip
    v_bytes := t.stored + n.fetched + n.reserved * case when n.source_key like 'uploads/%' then 2 else 3 end;
    select sum(unfinished) into v_waiting from tokens;
    outcome := case
        when t.id is null or not is_good(t) then 'invalid'
        when j.id = n.id then 'admitted'
        when j.id is not null then case when j.body_hash = n.body_hash then 'replayed' else 'mismatch' end
        when t.used >= t.quota then 'quota'
        when t.unfinished >= t.concurrent then 'concurrent'
        when v_bytes > p_storage_limit then 'storage'
        when v_waiting >= p_queue_limit then 'queue' end;
    request_id := j.id;
    allowed := case outcome when 'quota' then t.quota when 'concurrent' then t.concurrent
        when 'storage' then p_storage_limit when 'queue' then p_queue_limit end;
    counted := case outcome when 'quota' then t.used when 'concurrent' then t.unfinished
        when 'storage' then v_bytes when 'queue' then v_waiting end;
    if outcome is not null then return next; return; end if;
    -- The name of the uploaded file or of an earlier job, or the last part of a URL's path if that ends in .mp4 etc.
    -- Other parts of a URL may be secret, and must not be stored longer than the URL.
    if n.mask_key is not null then
        n.name := (select name from jobs where id = split_part(n.mask_key, '/', 2));
    elsif n.source_key is not null then
        n.name := coalesce((select name from uploads where key = n.source_key),
                           (select name from jobs where id = split_part(n.source_key, '/', 2)));
    else
        n.name := substring(split_part(split_part(n.video_url, '#', 1), '?', 1)
                            from '/([^/%]{1,200}\.(?:mp4|m4v|mov|webm|mkv|avi|gif))$');
    end if;
    -- Release the token's lock before the commit is on the disk; the caller waits for that (docs/adr/0021).
    perform set_config('synchronous_commit', 'off', true);
    n.status := p_change ->> 'job'; n.stage := n.status; n.priority := t.priority; n.created_at := clock();
    n.frames_total := n.clip ->> 'frames';
    insert into jobs overriding user value values (n.*) returning seq into n.seq;
    perform add_steps(n, p_change ->> 'adds', '[{}]', 1);
    update tokens set used = used + 1, unfinished = unfinished + 1 where id = n.token;
    outcome := 'admitted'; request_id := n.id;
    return next;
end $$;

-- Set a job's `stored` bytes (docs/adr/0091). Until the job is swept, they include the segments (as large as the
-- clip), the clip if it was downloaded, and `fetched`. They include `reserved` until it ends, then the result's files.
create function count_stored() returns trigger language plpgsql as $$
begin
    new.stored := case when new.swept_at is not null then 0 else new.fetched
            + case when new.source_key like 'uploads/%' then 1 else 2 end * bytes_of(new.clip, 'size_bytes') end
        + case when new.ended_at is null then new.reserved
            when new.expired_at is not null or new.result_key is null then 0
            else bytes_of(new.report, 'bytes', 'mask_bytes', 'network_bytes') end;
    update tokens set stored = stored + new.stored - coalesce(old.stored, 0)
    where id = new.token and new.stored <> coalesce(old.stored, 0);
    return new;
end $$;
create trigger count_stored
    before insert or update of clip, source_key, report, result_key, ended_at, swept_at, expired_at, fetched, reserved
    on jobs for each row execute function count_stored();

-- Reserve p_bytes for a step's result. If p_optional bytes more fit into p_most, reserve them, too, and return true.
create function reserve_result(p_job text, p_stage text, p_number integer, p_attempt integer, p_bytes bigint,
                               p_optional bigint, p_most bigint)
returns boolean language plpgsql as $$
declare j jobs; v_fits boolean;
begin
    select * into j from jobs where id = p_job for update;
    if not exists (select from steps where job = p_job and stage = p_stage and number = p_number
            and attempt = p_attempt and status = 'running') then
        return false;
    end if;
    select p_optional = 0 or stored - j.reserved + p_bytes + p_optional <= p_most into v_fits
    from tokens where id = j.token for no key update;
    update jobs set reserved = p_bytes + case when v_fits then p_optional else 0 end where id = p_job;
    return v_fits;
end $$;

-- Set an upload's size, unless the token would store more than p_most (then ok is false). Ignore an unknown key.
create function reserve_upload(p_key text, p_bytes bigint, p_most bigint)
returns table (ok boolean, counted bigint) language plpgsql as $$
declare t tokens; v_more bigint;
begin
    select * into t from tokens where id = (select token from uploads where key = p_key) for no key update;
    select p_bytes - bytes into v_more from uploads where key = p_key;  -- constant while the token is locked
    ok := v_more is null or v_more <= 0 or t.stored + v_more <= p_most;
    counted := t.stored;
    if ok then
        update uploads set bytes = p_bytes where key = p_key;
        update tokens set stored = stored + v_more where id = t.id;
    end if;
    return next;
end $$;

-- End a job; every job ends here. An ended job is not changed.
create function end_job(p_job text, p_change jsonb) returns boolean language plpgsql as $$
declare j jobs;
begin
    select * into j from jobs where id = p_job for update;
    if not found or j.ended_at is not null or (not p_change ? 'step' and not p_change -> 'of' ? j.status) then
        return false;
    end if;
    j := jsonb_populate_record(j, coalesce(p_change -> 'columns', '{}'));
    update jobs set status = p_change ->> 'job', stage = p_change ->> 'job', error = j.error,
        result_key = j.result_key, report = j.report, ended_at = clock(), video_url = null, background_url = null
    where id = p_job;
    update tokens set unfinished = unfinished - 1 where id = j.token;
    update attempts a set ended_at = clock(), outcome = 'dropped' where a.job = p_job and a.ended_at is null;
    perform from steps where job = p_job and status <> 'done' order by stage, number for update;
    update steps set status = 'dropped' where job = p_job and status <> 'done';
    delete from newest_masks where job = p_job;
    if j.webhook_url is not null then
        insert into deliveries (job, token, url, next_at) values (p_job, j.token, j.webhook_url, clock());
        perform wake('webhooks');
    end if;
    return true;
end $$;

-- Claim this step unless it has ended or is claimed. If the clock was set forward since the last `recover`, that does
-- not count as used time.
create function begin_step(p_change jsonb, p_job text, p_stage text, p_number integer, p_worker text,
                           p_lease_s float8)
returns jsonb language plpgsql as $$
declare j jobs; s steps;
begin
    select * into j from jobs where id = p_job for update;
    update steps set status = p_change ->> 'step', attempt = attempt + 1, frames_done = 0, ends_at = null,
        lease_until = clock() + make_interval(secs => p_lease_s), moved_at = clock(), touched_at = clock()
    where job = p_job and stage = p_stage and number = p_number and p_change -> 'of' ? status
    and j.ended_at is null returning * into s;
    if not found then return null; end if;
    insert into attempts (job, stage, number, attempt, worker, started_at)
    values (p_job, p_stage, p_number, s.attempt, p_worker, clock());
    update jobs set status = p_change ->> 'job', stage = p_stage, started_at = coalesce(started_at, clock()),
        deadline_from = coalesce(deadline_from, greatest(clock(), (select last_at from housekeeping))),  -- if set back
        masking_at = case when p_stage = 'segment' then coalesce(masking_at, clock()) else masking_at end
    where id = p_job and stage <> p_stage;
    return to_jsonb(j) || to_jsonb(s) || jsonb_build_object(
        'used_s', greatest(0, coalesce(extract(epoch from least(clock(),
            (select last_at + interval '10 seconds' from housekeeping)) - j.deadline_from), 0)));
end $$;

-- Claim the next step of the token that this queue has served least. Return no row if none is ready. The token that the
-- worker served last (p_last) may be 5 s of virtual time ahead of others: for another token, the worker must start a
-- child (0.5 s) and load the network. A token that was idle is served first for at most 10 s of virtual time. `held`
-- is the number of tokens that were skipped because they have `per_token` running steps.
create function claim_step(p_version integer, p_change jsonb, p_queue text, p_worker text, p_lease_s float8,
                           p_last uuid)
returns table (step jsonb, held integer) language plpgsql as $$
declare q queues; r record;
begin
    perform check_version(p_version);
    if not exists (select from steps where status = 'todo' and (stage = 'segment') = (p_queue = 'masks')
            and ready_at <= clock()) then
        return;  -- without the lock of the queue, since idle workers ask often
    end if;
    held := 0;
    select * into q from queues where queue = p_queue for update;
    for r in
        select s.job, s.stage, s.number, t.id as token, t.share, b.begins from tokens t
        cross join lateral (
            select y.job, y.stage, y.number, y.seq from steps y
            where y.token = t.id and y.status = 'todo' and (y.stage = 'segment') = (p_queue = 'masks')
            and y.ready_at <= clock()
            order by (y.attempt = 0), (y.stage <> 'join'), y.seq, y.number limit 1) s
        left join shares h on h.token = t.id and h.queue = p_queue
        cross join lateral (select greatest(coalesce(h.passed, q.clock), q.clock - 10.0) as begins) b
        where t.unfinished > 0
        order by t.priority desc, b.begins - case when t.id = p_last then 5.0 else 0 end, s.seq
    loop
        if q.per_token <= (select count(*) from steps x
            where x.token = r.token and x.status = 'running' and queue_of(x.stage) = p_queue) then
            held := held + 1;
            continue;
        end if;
        step := begin_step(p_change, r.job, r.stage, r.number, p_worker, p_lease_s);
        continue when step is null;
        update queues set clock = greatest(q.clock, r.begins) where queue = p_queue;
        insert into shares as h (token, queue, passed) values (r.token, p_queue, r.begins + 1.0 / r.share)
        on conflict (token, queue) do update set passed = excluded.passed;
        return next; return;
    end loop;
    if held > 0 then return next; end if;
end $$;

-- Charge a step's seconds to its token's share; the claim has already charged one second.
create function charge_share(p_stage text, p_token uuid, p_seconds float8) returns void language sql as $$
    update shares h set passed = h.passed + (greatest(p_seconds, 0) - 1.0) / t.share
    from tokens t where t.id = p_token and h.token = p_token and h.queue = queue_of(p_stage)
$$;

-- Renew the leases of a worker's steps and record their progress. Return the steps that were renewed.
create function renew_steps(p_lease_s float8, p_jobs text[], p_stages text[], p_numbers integer[], p_attempts integer[],
                            p_frames bigint[], p_idle_s float8[], p_left_s float8[], p_pngs bytea[])
returns table (job text, stage text, number integer, attempt integer) language sql as $$
    with ours as (
        update steps s set frames_done = h.frames, lease_until = clock() + make_interval(secs => p_lease_s),
            moved_at = clock() - make_interval(secs => h.idle_s), ends_at = clock() + make_interval(secs => h.left_s)
        from (select h.* from unnest(p_jobs, p_stages, p_numbers, p_attempts, p_frames, p_idle_s, p_left_s, p_pngs)
                as h (job, stage, number, attempt, frames, idle_s, left_s, png)
            join steps x using (job, stage, number, attempt) where x.status = 'running'
            order by job, stage, number for update of x) h
        where s.job = h.job and s.stage = h.stage and s.number = h.number and s.status = 'running'
        returning s.job, s.stage, s.number, s.attempt, h.png),
    shown as (
        insert into newest_masks (job, png)
        select distinct on (o.job) o.job, o.png from ours o where o.png is not null order by o.job
        on conflict on constraint newest_masks_pkey do update set png = excluded.png)
    select o.job, o.stage, o.number, o.attempt from ours o
$$;

-- Record how an attempt ended. Return false, and change nothing, if it has lost its lease.
create function end_attempt(p_job text, p_stage text, p_number integer, p_attempt integer, p_change jsonb,
                            p_seconds float8)
returns boolean language plpgsql as $$
declare j jobs; s steps; v_is_done boolean := p_change ->> 'step' = 'done'; v_ends_job boolean;
begin
    select * into j from jobs where id = p_job for update;
    select * into s from steps where job = p_job and stage = p_stage and number = p_number and attempt = p_attempt
        and p_change -> 'of' ? status;
    if not found then return false; end if;  -- another attempt has begun, or the job has ended
    s.crashes := s.crashes + (p_change ? 'crash')::integer;
    p_change := replace(p_change::text, '{crashes}', s.crashes::text)::jsonb;  -- in the error
    update attempts a set ended_at = clock(), outcome = case when v_is_done then 'done' else p_change ->> 'event' end,
        details = p_change ->> 'details'
    where a.job = p_job and a.stage = p_stage and a.number = p_number and a.attempt = p_attempt;
    perform charge_share(p_stage, j.token, p_seconds);
    v_ends_job := p_change ? 'job' and (not p_change ? 'crash' or s.crashes >= (p_change ->> 'most_crashes')::integer);
    if v_is_done or not v_ends_job then  -- else `end_job` drops it with the others, in their order
        update steps set status = p_change ->> 'step', result = p_change -> 'result', crashes = s.crashes,
            frames_done = case when v_is_done then coalesce((p_change ->> 'frames')::bigint, frames_done) else 0 end,
            lease_until = null, touched_at = clock(),
            ready_at = clock() + make_interval(secs => coalesce((p_change ->> 'retry_s')::float8, 0))
        where job = p_job and stage = p_stage and number = p_number;
    end if;
    if v_ends_job then
        perform end_job(p_job, p_change);
    elsif not v_is_done then
        perform wake(queue_of(p_stage)) where not p_change ? 'retry_s';  -- a later retry is found by looking
    else
        perform write_columns(p_job, p_change -> 'columns') where p_change ? 'columns';
        update steps set status = 'todo', touched_at = clock() where job = p_job and stage = p_stage and number = (
            select min(number) from steps where job = p_job and stage = p_stage and status = 'waiting');
        if found then
            perform wake(queue_of(p_stage));
        elsif not exists (select from steps where job = p_job and stage = p_stage and status <> 'done') then
            perform add_steps(j, p_change ->> 'adds', p_change -> 'steps', (p_change ->> 'in_flight')::integer);
        end if;
    end if;
    return true;
end $$;

-- Write those of a job's columns that p_columns names, as far as an ingest may know them.
create function write_columns(p_job text, p_columns jsonb) returns void language sql as $$
    update jobs j set (clip, frames_total, source_key, background_key, fetched, reserved) = (
        select n.clip, n.frames_total, n.source_key, n.background_key, n.fetched, n.reserved
        from jsonb_populate_record(j, p_columns) n)
    where id = p_job
$$;

-- Claim the next due webhook. If all tokens with a due webhook are at their limit, return a row without id.
create function take_delivery(p_held_s float8)
returns table (id bigint, request_id text, url text, attempt integer, payload bytea, webhook_key bytea,
               traceparent text)
language plpgsql as $$
declare v_id bigint; v_held boolean;
begin
    if not exists (select from deliveries d where d.status = 'pending' and d.next_at <= clock()) then return; end if;
    perform from queues where queue = 'webhooks' for update;
    select d.id, d.held into v_id, v_held
    from tokens t cross join lateral (
        select d.id, d.next_at, (select count(*) from deliveries x where x.token = t.id and x.held_until > clock())
            >= (select per_token from queues where queue = 'webhooks') as held
        from deliveries d where d.token = t.id and d.status = 'pending' and d.next_at <= clock()
        order by d.next_at limit 1) d
    order by d.held, d.next_at limit 1;
    if v_held then return next; end if;
    return query
        update deliveries d set attempt = d.attempt + 1, next_at = clock() + make_interval(secs => p_held_s),
            held_until = clock() + make_interval(secs => p_held_s)
        from tokens t, jobs j where not v_held and d.id = v_id and t.id = d.token and j.id = d.job
        returning d.id, d.job, d.url, d.attempt, d.payload, t.webhook_key, j.traceparent;
end $$;

-- Record how an attempt ended. If p_status is 'pending', retry after p_wait_s. A stale attempt changes nothing.
create function delivery_ended(p_delivery bigint, p_attempt integer, p_status text, p_wait_s float8)
returns void language sql as $$
    update deliveries set status = p_status, held_until = null, next_at = clock() + make_interval(secs => p_wait_s)
    where id = p_delivery and attempt = p_attempt and status = 'pending'
$$;

-- Shift times after the clock was set, retry steps whose leases expired, and end jobs over their time limit. If another
-- call is running, return at once. `alone`: the last call was also p_worker's, or long ago.
create function recover(p_version integer, p_worker text, p_lease_s float8, p_wall_clock_s float8, p_lost jsonb,
                        p_timed_out jsonb)
returns table (lost integer, timed_out integer, alone boolean) language plpgsql as $$
declare
    v_now timestamptz := clock();
    v_over timestamptz := v_now - make_interval(secs => p_wall_clock_s);
    v_last timestamptz; v_gap interval; v_jobs text[]; r record;
begin
    perform check_version(p_version);
    lost := 0; timed_out := 0;
    select last_at, worker is not distinct from p_worker into v_last, alone from housekeeping for update skip locked;
    if not found then return; end if;
    update housekeeping set last_at = v_now, worker = p_worker;
    v_gap := v_now - v_last;
    alone := alone or v_gap > make_interval(secs => p_lease_s / 2);
    if v_gap not between interval '0' and make_interval(secs => p_lease_s / 2) then
        -- The clock was set, or the database, the machine or every worker was down. A lease may have expired though
        -- its worker is alive, so renew it. Shift times that were in the future at the last call by the gap.
        perform from jobs where status = 'running' order by id for update;
        perform from steps where status in ('todo', 'running') order by job, stage, number for update;
        update jobs set deadline_from = deadline_from + v_gap where status = 'running';
        update steps set lease_until = v_now + make_interval(secs => p_lease_s), moved_at = moved_at + v_gap
        where status = 'running';
        update steps set touched_at = touched_at + least(v_gap, v_now - touched_at),
            ready_at = ready_at + case when ready_at > least(v_last, v_now)
                then least(v_gap, v_now - touched_at) else interval '0' end
        where status = 'todo';
        update deliveries set next_at = next_at + v_gap, held_until = held_until + v_gap
        where status = 'pending' and next_at > least(v_last, v_now) and (v_gap < interval '0' or attempt > 0);
        update processes set seen_at = least(seen_at, v_now) where seen_at > v_now and v_gap < interval '0';
        return next; return;
    end if;
    -- Skip jobs that another call has locked; the next `recover` handles them.
    select array_agg(id) into v_jobs from (
        select id from jobs where status = 'running' and (deadline_from < v_over or id in (
            select job from steps where status = 'running' and lease_until < v_now)) limit 200 for update skip locked) x;
    perform from steps where job = any(v_jobs) and status <> 'done' order by job, stage, number for update;
    for r in
        select job, stage, number, attempt from steps
        where job = any(v_jobs) and status = 'running' and lease_until < v_now order by lease_until
    loop
        if end_attempt(r.job, r.stage, r.number, r.attempt, p_lost, p_lease_s) then
            lost := lost + 1;
        end if;
    end loop;
    select count(*) filter (where end_job(id, p_timed_out)) into timed_out from jobs
    where id = any(v_jobs) and status = 'running' and deadline_from < v_over;
    return next;
end $$;

-- Record that a process is alive, and add its new counts. Return the number of live workers, and its index among them.
create function report_process(p_id uuid, p_kind text, p_slots integer, p_sandbox text, p_report bigint,
                               p_samples text[], p_labels jsonb[], p_values float8[])
returns table (workers bigint, place bigint) language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    insert into processes (id, kind, slots, sandbox, report, seen_at)
    values (p_id, p_kind, p_slots, p_sandbox, p_report, clock())
    on conflict (id) do update set report = p_report, seen_at = clock() where processes.report < p_report;
    if found then                                        -- else it is a repeated report
        insert into counts (sample, labels, value)
        select * from unnest(p_samples, p_labels, p_values) as t (sample, labels, value)
        order by sample, labels                          -- a common order prevents deadlocks
        on conflict (sample, labels) do update set value = counts.value + excluded.value;
        delete from processes where seen_at < clock() - interval '1 hour';
    end if;
    return query select count(*), count(*) filter (where p.id < p_id) from processes p
        where p.kind = 'worker' and p.seen_at > clock() - interval '20 seconds';
end $$;
