-- Fair shares between tokens (docs/adr/0090). An engine row wakes a worker for a queue; which step the worker takes
-- is decided here: the next step of the token that has had the least of the queue, measured in seconds
-- divided by the token's share (start-time fair queueing).

alter table tokens add column share integer not null default 1 check (share > 0);

create table queues (
    queue text primary key,
    clock float8 not null default 0                     -- the virtual time at which the newest claim began
);
insert into queues (queue) values ('files'), ('masks');

create table shares (
    token  uuid not null references tokens on delete cascade,
    queue  text not null references queues,
    passed float8 not null default 0,                   -- the virtual time up to which the token has been served
    primary key (token, queue)
) with (fillfactor = 50);

alter table steps add column token uuid, add column seq bigint,
    add column ready_at timestamptz not null default 'epoch';  -- an attempt that failed is tried again then
update steps s set token = j.token, seq = j.seq from jobs j where j.id = s.job;
create index steps_turn on steps (token, (stage = 'segment'), (attempt = 0), (stage <> 'join'), seq, number)
    where status = 'todo';
create index steps_files_running on steps (token) where status = 'running' and stage <> 'segment';
drop index jobs_queued;
create index jobs_queued on jobs (token, seq) where status = 'queued';

create function fill_step() returns trigger language plpgsql as $$
begin
    select j.token, j.seq into new.token, new.seq from jobs j where j.id = new.job;
    return new;
end $$;
create trigger fill_step before insert on steps for each row execute function fill_step();

create or replace function wake_step(p_job text, p_stage text, p_number integer, p_priority integer, p_delay_s float8)
returns void language plpgsql as $$
declare
    v_name text := p_job || ':' || p_stage || ':' || p_number;
begin
    if p_delay_s > 0 then
        update steps set ready_at = clock_timestamp() + make_interval(secs => p_delay_s)
        where job = p_job and stage = p_stage and number = p_number;
    end if;
    if exists (select from procrastinate_jobs where queueing_lock = v_name and status = 'todo') then
        return;
    end if;
    perform procrastinate_defer_jobs_v1(array[row(
        case when p_stage = 'segment' then 'masks' else 'files' end, p_stage, p_priority, null, v_name,
        jsonb_build_object('job', p_job, 'number', p_number),
        case when p_delay_s > 0 then now() + make_interval(secs => p_delay_s) end
    )::procrastinate_job_to_defer_v1]);
end $$;

-- The engine row of the step that was asked for is used up, and another step was taken: that one's row
-- now wakes for the step that was asked for, so that each waiting step keeps one row.
create function swap_wake_up(p_taken_job text, p_taken_stage text, p_taken_number integer,
                             p_job text, p_stage text, p_number integer)
returns void language plpgsql as $$
declare
    v_taken text := p_taken_job || ':' || p_taken_stage || ':' || p_taken_number;
    v_asked text := p_job || ':' || p_stage || ':' || p_number;
begin
    -- tend() holds a step's row while it makes an engine row for it
    perform from steps where job = p_job and stage = p_stage and number = p_number and status = 'todo'
    for update skip locked;
    if found and not exists (select from procrastinate_jobs where queueing_lock = v_asked and status = 'todo') then
        update procrastinate_jobs set queueing_lock = v_asked, task_name = p_stage,
            args = jsonb_build_object('job', p_job, 'number', p_number)
        where queueing_lock = v_taken and status = 'todo';
    else
        delete from procrastinate_jobs where queueing_lock = v_taken and status = 'todo';
    end if;
end $$;

-- Take the step whose turn it is; no row when there is none. p_job, p_stage and p_number are the step whose
-- engine row woke the worker. A token with p_per_token steps of the queue 'files' under way gets no more of them.
create function claim_step(p_queue text, p_worker text, p_lease_s float8, p_per_token integer,
                           p_job text, p_stage text, p_number integer)
returns table (job text, stage text, number integer, token uuid, attempt integer, args jsonb, video_url text,
               source_key text, preset text, quality text, clip jsonb, deadline_from timestamptz, held integer)
language plpgsql as $$
declare
    v_clock float8;
    v_running integer;
    r record;
begin
    perform set_config('synchronous_commit', 'off', true);  -- the caller waits for the disk, without the lock
    held := 0;
    select q.clock into v_clock from queues q where q.queue = p_queue for update;
    for r in
        select s.job, s.stage, s.number, t.id as token, t.share,
            greatest(coalesce(h.passed, 0), v_clock) as begins
        from tokens t
        cross join lateral (
            select x.job, x.stage, x.number, x.seq from steps x
            where x.token = t.id and x.status = 'todo' and (x.stage = 'segment') = (p_queue = 'masks')
            and x.ready_at <= clock_timestamp()
            order by (x.attempt = 0), (x.stage <> 'join'), x.seq, x.number limit 1) s
        left join shares h on h.token = t.id and h.queue = p_queue
        where t.unfinished > 0
        order by t.priority desc, begins, s.seq
    loop
        if p_queue = 'files' then
            select count(*) into v_running from steps x
            where x.token = r.token and x.status = 'running' and x.stage <> 'segment';
            if v_running >= p_per_token then
                held := held + 1;
                continue;                                -- `step_ended` wakes for it
            end if;
        end if;
        return query
            select r.job, r.stage, r.number, b.*, held
            from begin_step(r.job, r.stage, r.number, p_worker, p_lease_s) b;
        continue when not found;
        update queues q set clock = greatest(q.clock, r.begins) where q.queue = p_queue;
        insert into shares as h (token, queue, passed) values (r.token, p_queue, r.begins + 1.0 / r.share)
        on conflict on constraint shares_pkey do update set passed = excluded.passed;
        if (r.job, r.stage, r.number) is distinct from (p_job, p_stage, p_number) then
            perform swap_wake_up(r.job, r.stage, r.number, p_job, p_stage, p_number);
        end if;
        return;
    end loop;
    if held > 0 then
        return query select null::text, null::text, null::integer, null::uuid, null::integer, null::jsonb,
            null::text, null::text, null::text, null::text, null::jsonb, null::timestamptz, held;
    end if;
end $$;

-- A worker has let go of a step: what it took is counted, and what the token's limit held back is woken.
create function step_ended(p_queue text, p_token uuid, p_seconds float8, p_per_token integer)
returns void language plpgsql as $$
declare
    v_free integer;
    r record;
begin
    perform set_config('synchronous_commit', 'off', true);
    update shares h set passed = h.passed + (p_seconds - 1.0) / t.share   -- the claim counted one second
    from tokens t where t.id = p_token and h.token = p_token and h.queue = p_queue;
    if p_queue <> 'files' then
        return;
    end if;
    select p_per_token - count(*) into v_free from steps
    where token = p_token and status = 'running' and stage <> 'segment';
    for r in
        select s.job, s.stage, s.number, j.priority from steps s join jobs j on j.id = s.job
        where s.token = p_token and s.status = 'todo' and s.stage <> 'segment' and s.ready_at <= clock_timestamp()
        and not exists (select from procrastinate_jobs p
            where p.queueing_lock = s.job || ':' || s.stage || ':' || s.number and p.status = 'todo')
        order by s.seq limit greatest(v_free, 0) for update of s skip locked
    loop
        perform wake_step(r.job, r.stage, r.number, r.priority, 0);
    end loop;
end $$;

-- What nobody looks after: expired leases, steps and deliveries without an engine row, jobs over their
-- time. One caller at a time; the others return at once.
create or replace function tend(p_lease_s float8, p_patience_s float8, p_wall_clock_s float8, p_max_crashes integer,
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
        and s.ready_at < v_now - make_interval(secs => p_patience_s)
        and (s.stage = 'segment' or not exists (select from steps x         -- `step_ended` will wake for it
            where x.token = s.token and x.status = 'running' and x.stage <> 'segment'))
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
