-- One token's receivers that hang hold no more than so many of the workers' places for webhooks (docs/adr/0090).

alter table deliveries add column token uuid, add column held_until timestamptz;  -- until then a worker is at it
update deliveries d set token = j.token from jobs j where j.id = d.job;
create index deliveries_held on deliveries (token) where held_until is not null;
create index deliveries_turn on deliveries (token, next_at) where status = 'pending';

create function fill_delivery() returns trigger language plpgsql as $$
begin
    select j.token into new.token from jobs j where j.id = new.job;
    return new;
end $$;
create trigger fill_delivery before insert on deliveries for each row execute function fill_delivery();

-- Those who count a token's attempts, and change their number, do it one after the other.
create function lock_deliveries_of(p_token uuid) returns void language sql as $$
    select pg_advisory_xact_lock(hashtextextended('deliveries:' || p_token, 0));
$$;

-- Take the delivery's next attempt; no row when it is not due, or done, or another's. Where the token has
-- p_per_token attempts under way, the row has no id, and `delivery_ended` wakes for it.
create function begin_delivery(p_delivery bigint, p_held_s float8, p_per_token integer)
returns table (id bigint, request_id text, url text, attempt integer, payload bytea, webhook_key bytea)
language plpgsql as $$
declare
    v_token uuid;
begin
    select d.token into v_token from deliveries d
    where d.id = p_delivery and d.status = 'pending' and d.next_at <= clock_timestamp();
    if not found then
        return;
    end if;
    perform lock_deliveries_of(v_token);
    if (select count(*) from deliveries x
            where x.token = v_token and x.held_until > clock_timestamp()) >= p_per_token then
        return query select null::bigint, null::text, null::text, null::integer, null::bytea, null::bytea;
        return;
    end if;
    return query
        update deliveries d set attempt = d.attempt + 1,
            next_at = clock_timestamp() + make_interval(secs => p_held_s),
            held_until = clock_timestamp() + make_interval(secs => p_held_s)
        from tokens t
        where d.id = p_delivery and t.id = v_token and d.status = 'pending' and d.next_at <= clock_timestamp()
        returning d.id, d.job, d.url, d.attempt, d.payload, t.webhook_key;
end $$;

-- An attempt is over: the delivery is wanted again after p_wait_s or is done, and what the token's limit held back is
-- woken. An attempt that another has taken over changes nothing.
create function delivery_ended(p_delivery bigint, p_attempt integer, p_status text, p_wait_s float8, p_per_token integer)
returns void language plpgsql as $$
declare
    v_token uuid;
    v_free integer;
    r record;
begin
    select d.token into v_token from deliveries d where d.id = p_delivery;
    if not found then
        return;
    end if;
    perform lock_deliveries_of(v_token);
    update deliveries d set status = p_status, held_until = null,
        next_at = clock_timestamp() + make_interval(secs => p_wait_s)
    where d.id = p_delivery and d.attempt = p_attempt and d.status = 'pending';
    if not found then
        return;
    end if;
    if p_status = 'pending' then
        perform wake_delivery(p_delivery, p_wait_s);
    end if;
    select p_per_token - count(*) into v_free from deliveries x
    where x.token = v_token and x.held_until > clock_timestamp();
    for r in
        select d.id from deliveries d
        where d.token = v_token and d.status = 'pending' and d.next_at <= clock_timestamp()
        and not exists (select from procrastinate_jobs p
            where p.queueing_lock = 'delivery:' || d.id and p.status = 'todo')
        order by d.next_at limit greatest(v_free, 0)
    loop
        perform wake_delivery(r.id, 0);
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
        and not exists (select from deliveries x                            -- `delivery_ended` will wake for it
            where x.token = d.token and x.held_until > v_now)
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
