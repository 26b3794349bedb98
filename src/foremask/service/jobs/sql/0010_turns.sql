-- Turns that are longer than one step (docs/adr/0090). A worker stays with the token that it has just served (p_last)
-- while that token is at most p_stay_s of virtual time ahead of the others: its child serves one token and is replaced
-- at each change. A token that has had less than the others comes first until it has p_arrears_s of what it missed.

drop function claim_step(text, text, float8, integer, text, text, integer);

-- Take the step whose turn it is; no row when there is none. p_job, p_stage and p_number are the step whose
-- engine row woke the worker. A token with p_per_token steps of the queue 'files' under way gets no more of them.
create function claim_step(p_queue text, p_worker text, p_lease_s float8, p_per_token integer,
                           p_job text, p_stage text, p_number integer, p_last uuid, p_stay_s float8, p_arrears_s float8)
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
      select *, begins - case when x.token = p_last then p_stay_s else 0 end as begins_here from (
        select s.job, s.stage, s.number, s.seq, t.priority, t.id as token, t.share,
            case when h.token is null then v_clock else greatest(h.passed, v_clock - p_arrears_s) end as begins
        from tokens t
        cross join lateral (
            select y.job, y.stage, y.number, y.seq from steps y
            where y.token = t.id and y.status = 'todo' and (y.stage = 'segment') = (p_queue = 'masks')
            and y.ready_at <= clock_timestamp()
            order by (y.attempt = 0), (y.stage <> 'join'), y.seq, y.number limit 1) s
        left join shares h on h.token = t.id and h.queue = p_queue
        where t.unfinished > 0) x
      order by x.priority desc, begins_here, x.seq
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
