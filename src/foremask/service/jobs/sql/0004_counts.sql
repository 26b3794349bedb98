-- What the processes have counted, added up for the metrics page, and which of them are there (docs/adr/0070).
-- Nothing is ever decided by these.

create table counts (
    sample text not null,                               -- foremask_step_seconds_bucket
    labels jsonb not null,
    value  float8 not null,
    primary key (sample, labels)
) with (fillfactor = 50);

create table processes (
    id      uuid primary key,                           -- a name of this life only
    kind    text not null,
    name    text not null,
    slots   integer not null,
    sandbox text not null,
    told    bigint not null default 0,                  -- the fence: each telling is added once, also when it is repeated
    seen_at timestamptz not null default now()
);

create function tell_counts(
    p_id uuid, p_kind text, p_name text, p_slots integer, p_sandbox text, p_told bigint,
    p_samples text[], p_labels jsonb[], p_values float8[])
returns void language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    insert into processes (id, kind, name, slots, sandbox, told)
    values (p_id, p_kind, p_name, p_slots, p_sandbox, p_told)
    on conflict (id) do update set told = p_told, seen_at = now() where processes.told < p_told;
    if not found then
        return;                                          -- it came twice
    end if;
    insert into counts (sample, labels, value)
    select * from unnest(p_samples, p_labels, p_values) as t (sample, labels, value)
    order by sample, labels                              -- one order for all: no two wait for each other
    on conflict (sample, labels) do update set value = counts.value + excluded.value;
    delete from processes where seen_at < now() - interval '1 hour';
end $$;
