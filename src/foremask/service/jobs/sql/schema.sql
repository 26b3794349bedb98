-- The service's tables and functions, version 26 (jobs/schema.py). A row of Procrastinate is only a ticket: it makes
-- one worker look for work in one queue (docs/adr/0020). A changed statement needs a new version, also in the names of
-- claim_step_26 and recover_26, so that older workers claim nothing. upgrade.sql changes older tables and functions.

create table tokens (
    id              uuid primary key,
    name            text not null,
    prefix          text not null,
    hash            bytea not null unique,              -- SHA-256; the token itself is never stored
    webhook_key     bytea not null,                     -- HMAC-SHA256(token, 'bria-webhook-signing-v1')
    rate_per_minute integer not null check (rate_per_minute > 0),
    burst           integer not null check (burst > 0),
    concurrent      integer not null check (concurrent > 0),
    priority        smallint not null default 0,
    share           integer not null default 1 check (share > 0),
    quota           bigint,                             -- jobs in all; null: unlimited
    used            bigint not null default 0,
    unfinished      bigint not null default 0,          -- number of queued and running jobs
    stored          bigint not null default 0,          -- bytes of its jobs and uploads
    due_at          timestamptz not null default 'epoch',  -- GCRA: when the next request is due
    created_at      timestamptz not null default now(),
    expires_at      timestamptz,
    revoked_at      timestamptz
) with (fillfactor = 50);

create table jobs (
    id              text primary key,
    seq             bigint generated always as identity,
    token           uuid not null references tokens,
    status          text not null default 'queued'
                    check (status in ('queued', 'running', 'completed', 'failed', 'cancelled')),
    stage           text not null default 'queued',
    priority        smallint not null,
    spec            jsonb not null,                     -- a JobSpec (options.py)
    video_url       text,                               -- URLs are deleted when the job ends: they may contain secrets
    source_key      text,                               -- keys are those of stored files
    mask_key        text,                               -- a mask to use instead of the network
    background_url  text,
    background_key  text,
    network_key     text,                               -- an earlier job's network results
    key_points      integer not null default 0,         -- number of leading hints from the field of this name
    name            text,                               -- the clip's file name
    webhook_url     text,
    idempotency_key text,
    body_hash       bytea,
    traceparent     text,                               -- the W3C header of its first span
    clip            jsonb,                              -- the clip's properties: a Clip or JobClip
    frames_total    bigint,
    result_key      text,
    report          jsonb,
    error           jsonb,
    fetched         bigint not null default 0,          -- bytes of a background, and of the clip of a reused mask
    reserved        bigint not null default 0,          -- bytes reserved for its result until it ends
    stored          bigint not null default 0,          -- bytes, computed from the row by `count_stored`
    created_at      timestamptz not null default now(),
    started_at      timestamptz,
    deadline_from   timestamptz,                        -- started_at; `recover` shifts it if the clock was set
    masking_at      timestamptz,
    ended_at        timestamptz,
    swept_at        timestamptz,                        -- source and segments deleted
    expired_at      timestamptz,                        -- result deleted
    unique (token, idempotency_key)
) with (fillfactor = 70);
create index jobs_queued on jobs (token, seq) where status = 'queued';
create index jobs_running on jobs (started_at) where status = 'running';
create index jobs_unswept on jobs (ended_at) where ended_at is not null and swept_at is null;
create index jobs_ended on jobs (ended_at) where ended_at is not null;
create index jobs_of_token on jobs (token, seq desc);
create index jobs_with_network on jobs (ended_at) where report ? 'network_bytes';

-- One unit of work of a job, done by one worker at a time: ingest, each segment, join.
create table steps (
    job         text not null references jobs on delete cascade,
    stage       text not null check (stage in ('ingest', 'segment', 'join')),
    number      integer not null default 0,
    token       uuid not null,                          -- token and seq are copies from the job's row
    seq         bigint not null,
    status      text not null check (status in ('waiting', 'todo', 'running', 'done', 'dropped')),
    attempt     integer not null default 0,             -- number of the newest; writes of older ones are refused
    crashes     integer not null default 0,             -- attempts that crashed or were lost
    args        jsonb not null default '{}',
    result      jsonb,
    frames_done bigint not null default 0,
    lease_until timestamptz,
    moved_at    timestamptz,                            -- time of the last progress: a frame or a byte
    ends_at     timestamptz,                            -- its end, as its worker estimates
    ready_at    timestamptz not null default 'epoch',   -- earliest time of the next attempt after a failed one
    touched_at  timestamptz not null default now(),
    primary key (job, stage, number)
) with (fillfactor = 50);
create index steps_running on steps (lease_until) where status = 'running';
create index steps_todo on steps (touched_at) where status = 'todo';
create index steps_turn on steps (token, (stage = 'segment'), (attempt = 0), (stage <> 'join'), seq, number)
    where status = 'todo';
create index steps_files on steps (token) where status in ('todo', 'running') and stage <> 'segment';

-- The history of a job: one row for each attempt at a step.
create table attempts (
    job        text not null references jobs on delete cascade,
    stage      text not null,
    number     integer not null,
    attempt    integer not null,
    worker     text,
    started_at timestamptz not null default now(),
    ended_at   timestamptz,
    outcome    text,
    details    text,
    primary key (job, stage, number, attempt)
);

create table deliveries (
    id         bigint generated always as identity primary key,
    job        text not null references jobs on delete cascade,
    token      uuid not null,
    url        text not null,
    status     text not null default 'pending' check (status in ('pending', 'delivered', 'given_up')),
    attempt    integer not null default 0,
    next_at    timestamptz not null default now(),
    held_until timestamptz,                             -- end of the lease of the attempt under way
    payload    bytea                                    -- made by the first attempt; all attempts send it
);
create index deliveries_job on deliveries (job);
create index deliveries_pending on deliveries (next_at) where status = 'pending';
create index deliveries_held on deliveries (token) where held_until is not null;
create index deliveries_turn on deliveries (token, next_at) where status = 'pending';

-- Fair shares between tokens (docs/adr/0090): start-time fair queueing, in seconds divided by a token's share.
create table queues (
    queue     text primary key,
    clock     float8 not null default 0,                -- the virtual time at which the newest claim began
    per_token integer                                   -- limit on a token's running steps or attempts; null: none
);
insert into queues (queue, per_token) values ('files', 4), ('masks', null), ('webhooks', 4);

create table shares (
    token  uuid not null references tokens on delete cascade,
    queue  text not null references queues,
    passed float8 not null default 0,                   -- the virtual time up to which the token has been served
    primary key (token, queue)
) with (fillfactor = 50);

create table uploads (
    key     text primary key,
    token   uuid not null references tokens on delete cascade,
    bytes   bigint not null default 0,                  -- the reserved size, then the actual size
    name    text,
    claim   text,                                       -- id of the request that uploads the file
    made_at timestamptz not null default now()
);
create index uploads_made on uploads (made_at);

-- One row: when `recover` was last called, and by which worker.
create table housekeeping (
    id      boolean primary key default true check (id),
    last_at timestamptz not null default now(),
    worker  text
);
insert into housekeeping default values;

-- Sums of the counters of all processes, for metrics only (docs/adr/0070).
create table counts (
    sample text not null,                               -- such as foremask_step_seconds_bucket
    labels jsonb not null,
    value  float8 not null,
    primary key (sample, labels)
) with (fillfactor = 50);

create table processes (
    id      uuid primary key,                           -- new at each start of the process
    kind    text not null,
    slots   integer not null,
    sandbox text not null,
    report  bigint not null default 0,                  -- number of its newest report; a repeated report adds nothing
    seen_at timestamptz not null default now()
) with (fillfactor = 50);

-- A small picture of a running job's newest mask. It may be lost in a crash, so no write-ahead log is needed.
create unlogged table newest_masks (
    job text primary key,                               -- no foreign key: its lock could deadlock with end_job
    png bytea not null check (length(png) <= 32768)
);

-- Functions. Each call is its own transaction, so a caller that is killed or paused leaves none open (docs/adr/0021).
-- Against deadlocks, all lock a job first, then its token, then its steps in key order. `recover` locks several jobs:
-- in the order of their ids, or only those that are not locked.

-- The clock for leases, rates and deadlines. Tests replace this function.
create function clock() returns timestamptz language sql as $$ select clock_timestamp() $$;

create function is_good(t tokens) returns boolean language sql as $$
    select t.revoked_at is null and (t.expires_at is null or t.expires_at > clock())
$$;

-- The sum of the sizes p_names in p_facts; a value that is no number of bytes counts as 0.
create function bytes_of(p_facts jsonb, variadic p_names text[]) returns bigint immutable language sql as $$
    select coalesce(sum((p_facts ->> name)::numeric) filter (where p_facts ->> name ~ '^[0-9]{1,15}$'), 0)::bigint
    from unnest(p_names) name
$$;

create function queue_of(p_stage text) returns text immutable language sql as $$
    select case p_stage when 'segment' then 'masks' else 'files' end
$$;

-- Insert a Procrastinate row, which makes one worker look for work. A superfluous row costs three statements.
create function send_ticket(p_queue text, p_delay_s float8 default 0) returns void language sql as $$
    select procrastinate_defer_jobs_v1(array[row(p_queue, p_queue, 0, null, null, '{}',
        case when p_delay_s > 0 then now() + make_interval(secs => p_delay_s) end)::procrastinate_job_to_defer_v1])
$$;

-- The number of a token's ready and running steps in 'files', at most per_token + 1. Only per_token of them have a
-- ticket or a worker; a step that ends passes its ticket on.
create function files_of(p_token uuid) returns bigint language sql as $$
    select count(*) from (select from steps where token = p_token and status in ('todo', 'running')
        and stage <> 'segment' limit 1 + (select per_token from queues where queue = 'files')) few
$$;

create function pass_ticket(p_token uuid) returns void language sql as $$
    select send_ticket('files') from queues where queue = 'files' and files_of(p_token) >= per_token
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
create function admit(p_job jsonb, p_queue_limit integer, p_storage_limit bigint)
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
    n.status := 'queued'; n.stage := 'queued'; n.priority := t.priority; n.created_at := clock();
    n.frames_total := n.clip ->> 'frames';
    insert into jobs overriding user value values (n.*) returning seq into n.seq;
    insert into steps (job, stage, token, seq, status, touched_at)
    values (n.id, 'ingest', n.token, n.seq, 'todo', clock());
    perform send_ticket('files') from queues where queue = 'files' and files_of(n.token) <= per_token;
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
create function end_job(p_job text, p_status text, p_error jsonb, p_result_key text, p_report jsonb)
returns boolean language plpgsql as $$
declare j jobs; v_files boolean;
begin
    update jobs set status = p_status, stage = p_status, error = p_error, result_key = p_result_key, report = p_report,
        ended_at = clock(), video_url = null, background_url = null
    where id = p_job and status in ('queued', 'running') returning * into j;
    if not found then return false; end if;
    update tokens set unfinished = unfinished - 1 where id = j.token;
    update attempts a set ended_at = clock(), outcome = 'dropped' where a.job = p_job and a.ended_at is null;
    select count(*) > 0 into v_files from steps where job = p_job and status = 'running' and stage <> 'segment';
    perform from steps where job = p_job and status <> 'done' order by stage, number for update;
    update steps set status = 'dropped' where job = p_job and status <> 'done';
    delete from newest_masks where job = p_job;
    if v_files then perform pass_ticket(j.token); end if;
    if j.webhook_url is not null then
        insert into deliveries (job, token, url, next_at) values (p_job, j.token, j.webhook_url, clock());
        perform send_ticket('webhooks');
    end if;
    return true;
end $$;

-- Claim this step unless it has ended or is claimed. If the clock was set forward since the last `recover`, that does
-- not count as used time.
create function begin_step(p_job text, p_stage text, p_number integer, p_worker text, p_lease_s float8)
returns jsonb language plpgsql as $$
declare j jobs; s steps;
begin
    select * into j from jobs where id = p_job for update;
    update steps set status = 'running', attempt = attempt + 1, frames_done = 0, ends_at = null,
        lease_until = clock() + make_interval(secs => p_lease_s), moved_at = clock(), touched_at = clock()
    where job = p_job and stage = p_stage and number = p_number and status = 'todo'
    and j.status in ('queued', 'running') returning * into s;
    if not found then return null; end if;
    insert into attempts (job, stage, number, attempt, worker, started_at)
    values (p_job, p_stage, p_number, s.attempt, p_worker, clock());
    update jobs set status = 'running', stage = p_stage, started_at = coalesce(started_at, clock()),
        deadline_from = coalesce(deadline_from, greatest(clock(), (select last_at from housekeeping))),  -- if set back
        masking_at = case when p_stage = 'segment' then coalesce(masking_at, clock()) else masking_at end
    where id = p_job and (status = 'queued' or stage <> p_stage);
    return to_jsonb(j) || to_jsonb(s) || jsonb_build_object(
        'used_s', greatest(0, coalesce(extract(epoch from least(clock(),
            (select last_at + interval '10 seconds' from housekeeping)) - j.deadline_from), 0)));
end $$;

-- Claim the next step of the token that this queue has served least. Return no row if none is ready. The token that the
-- worker served last (p_last) may be 5 s of virtual time ahead of others: for another token, the worker must start a
-- child (0.5 s) and load the network. A token that was idle is served first for at most 10 s of virtual time. `held`
-- is the number of tokens that were skipped because they have `per_token` running steps.
create function claim_step_26(p_queue text, p_worker text, p_lease_s float8, p_last uuid)
returns table (step jsonb, held integer) language plpgsql as $$
declare q queues; r record;
begin
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
        step := begin_step(r.job, r.stage, r.number, p_worker, p_lease_s);
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

create function finish_step(p_job text, p_stage text, p_number integer, p_attempt integer, p_result jsonb,
                            p_in_flight integer, p_seconds float8)
returns boolean language plpgsql as $$
declare j jobs;
begin
    select * into j from jobs where id = p_job for update;
    update steps set status = 'done', result = p_result, lease_until = null,
        frames_done = coalesce((p_result ->> 'frames')::bigint, frames_done)
    where job = p_job and stage = p_stage and number = p_number and attempt = p_attempt and status = 'running';
    if not found then return false; end if;  -- a stale attempt, or the job has ended
    update attempts a set ended_at = clock(), outcome = 'done'
    where a.job = p_job and a.stage = p_stage and a.number = p_number and a.attempt = p_attempt;
    perform charge_share(p_stage, j.token, p_seconds);
    if p_stage = 'ingest' then
        update jobs set clip = p_result -> 'clip', source_key = p_result ->> 'source_key',
            background_key = p_result ->> 'background_key',
            frames_total = coalesce((p_result -> 'clip' ->> 'frames')::bigint, frames_total),
            fetched = coalesce((p_result ->> 'fetched_bytes')::bigint, fetched),
            reserved = coalesce((p_result -> 'clip' ->> 'size_bytes')::bigint, reserved)
        where id = p_job;
        insert into steps (job, stage, number, token, seq, status, args, touched_at)
        select p_job, 'segment', ordinality - 1, j.token, j.seq,
            case when ordinality <= p_in_flight then 'todo' else 'waiting' end, value, clock()
        from jsonb_array_elements(p_result -> 'segments') with ordinality;
        perform send_ticket('masks') from steps where job = p_job and stage = 'segment' and status = 'todo';
    elsif p_stage = 'join' or p_result ? 'result_key' then
        perform end_job(p_job, 'completed', null, p_result ->> 'result_key', p_result -> 'report');
    else
        update steps set status = 'todo', touched_at = clock()
        where job = p_job and stage = 'segment' and number = (
            select min(number) from steps where job = p_job and stage = 'segment' and status = 'waiting');
        if found then
            perform send_ticket('masks');
        elsif not exists (select from steps where job = p_job and stage = 'segment' and status <> 'done') then
            insert into steps (job, stage, token, seq, status, touched_at)
            values (p_job, 'join', j.token, j.seq, 'todo', clock());  -- all segments are done
            perform send_ticket('files');
        end if;
    end if;
    if p_stage <> 'segment' then perform pass_ticket(j.token); end if;
    return true;
end $$;

-- Record a failed attempt. Retry it after p_retry_s, or end the job if that is null or after p_max_crashes crashes.
create function fail_step(p_job text, p_stage text, p_number integer, p_attempt integer, p_outcome text, p_error jsonb,
                          p_retry_s float8, p_max_crashes integer, p_seconds float8)
returns boolean language plpgsql as $$
declare j jobs; s steps;
begin
    select * into j from jobs where id = p_job for update;
    select * into s from steps
    where job = p_job and stage = p_stage and number = p_number and attempt = p_attempt and status = 'running';
    if not found then return false; end if;
    if p_outcome in ('crashed', 'lost') then s.crashes := s.crashes + 1; end if;
    p_error := jsonb_set(p_error, '{details}', to_jsonb(replace(p_error ->> 'details', '{crashes}', s.crashes::text)));
    update attempts a set ended_at = clock(), outcome = p_outcome, details = p_error ->> 'details'
    where a.job = p_job and a.stage = p_stage and a.number = p_number and a.attempt = p_attempt;
    perform charge_share(p_stage, j.token, p_seconds);
    if p_retry_s is null or s.crashes >= p_max_crashes then
        perform end_job(p_job, 'failed', p_error, null, null);
    else
        update steps set status = 'todo', crashes = s.crashes, lease_until = null, frames_done = 0,
            touched_at = clock(), ready_at = clock() + make_interval(secs => p_retry_s)
        where job = p_job and stage = p_stage and number = p_number;
        perform send_ticket(queue_of(p_stage), p_retry_s);
    end if;
    return true;
end $$;

-- Claim the next due webhook. If all tokens with a due webhook are at their limit, return a row without id.
create function take_delivery(p_held_s float8)
returns table (id bigint, request_id text, url text, attempt integer, payload bytea, webhook_key bytea,
               traceparent text)
language plpgsql as $$
declare v_id bigint; v_held boolean;
begin
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
returns void language plpgsql as $$
declare v_token uuid;
begin
    update deliveries d set status = p_status, held_until = null, next_at = clock() + make_interval(secs => p_wait_s)
    where d.id = p_delivery and d.attempt = p_attempt and d.status = 'pending' returning token into v_token;
    if p_status = 'pending' and found then perform send_ticket('webhooks', p_wait_s); end if;
    perform send_ticket('webhooks') where exists (
        select from deliveries d where d.token = v_token and d.status = 'pending' and d.next_at <= clock());
end $$;

-- Shift times after the clock was set, retry steps whose leases expired, replace lost tickets, and end jobs over their
-- time limit. If another call is running, return at once. `alone`: the last call was also p_worker's, or long ago.
create function recover_26(p_worker text, p_lease_s float8, p_patience_s float8, p_wall_clock_s float8,
                           p_max_crashes integer, p_crashed jsonb, p_timed_out jsonb)
returns table (lost integer, woken integer, timed_out integer, alone boolean) language plpgsql as $$
declare
    v_now timestamptz := clock();
    v_old timestamptz := v_now - make_interval(secs => p_patience_s);
    v_over timestamptz := v_now - make_interval(secs => p_wall_clock_s);
    v_last timestamptz; v_gap interval; v_jobs text[]; r record;
begin
    lost := 0; woken := 0; timed_out := 0;
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
    -- Make sure that each queue has a ticket for each step or webhook that has waited long, but at most 20.
    for r in
        select waiting.queue, least(waiting.n, 20) - (select count(*) from procrastinate_jobs p
            where p.queue_name = waiting.queue and p.status = 'todo' and coalesce(p.scheduled_at <= now(), true)) as n
        from (
            select queue_of(s.stage) as queue, count(*) as n from steps s
            where s.status = 'todo' and s.touched_at < v_old and s.ready_at < v_old
            and (s.stage = 'segment' or s.token not in (    -- these get tickets from steps that end
                select x.token from steps x where x.status = 'running' and x.stage <> 'segment'
                group by 1 having count(*) >= (select per_token from queues where queue = 'files')))
            group by 1
            union all
            select 'webhooks', count(*) from deliveries d
            where d.status = 'pending' and d.next_at < v_old
            and not exists (select from deliveries x where x.token = d.token and x.held_until > v_now)) waiting
    loop
        perform send_ticket(r.queue) from generate_series(1, r.n);
        woken := woken + greatest(r.n, 0);
    end loop;
    -- Skip jobs that another call has locked; the next `recover` handles them.
    select array_agg(id) into v_jobs from (
        select id from jobs where status = 'running' and (deadline_from < v_over or id in (
            select job from steps where status = 'running' and lease_until < v_now)) limit 200 for update skip locked) x;
    perform from steps where job = any(v_jobs) and status <> 'done' order by job, stage, number for update;
    for r in
        select job, stage, number, attempt from steps
        where job = any(v_jobs) and status = 'running' and lease_until < v_now order by lease_until
    loop
        if fail_step(r.job, r.stage, r.number, r.attempt, 'lost', p_crashed, 0, p_max_crashes, p_lease_s) then
            lost := lost + 1;
        end if;
    end loop;
    select count(end_job(id, 'failed', p_timed_out, null, null)) into timed_out from jobs
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
