-- What the service knows. These tables are the truth; the engine's rows are only wake-up calls (docs/adr/0020).

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
    quota           bigint,                             -- jobs in all; null: no end
    used            bigint not null default 0,
    unfinished      bigint not null default 0,          -- jobs queued and running; counting them took milliseconds
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
    video_url       text,                               -- forgotten when the job ends: it may hold a secret
    source_key      text,
    preset          text not null,
    quality         text not null,
    webhook_url     text,
    idempotency_key text,
    body_hash       bytea,
    clip            jsonb,                              -- what the probe found
    frames_total    bigint,
    result_key      text,
    report          jsonb,
    error           jsonb,
    created_at      timestamptz not null default now(),
    started_at      timestamptz,
    masking_at      timestamptz,
    ended_at        timestamptz,
    swept_at        timestamptz,                        -- source and segments deleted
    expired_at      timestamptz,                        -- result deleted
    unique (token, idempotency_key)
) with (fillfactor = 70);
create index jobs_queued on jobs ((-priority), seq) where status = 'queued';  -- one order: a range of it is counted
create index jobs_running on jobs (started_at) where status = 'running';
create index jobs_unswept on jobs (ended_at) where ended_at is not null and swept_at is null;
create index jobs_ended on jobs (ended_at) where ended_at is not null;

-- One unit of work of a job, done by one worker at a time: ingest, each segment, join.
create table steps (
    job         text not null references jobs on delete cascade,
    stage       text not null check (stage in ('ingest', 'segment', 'join')),
    number      integer not null default 0,
    status      text not null check (status in ('waiting', 'todo', 'running', 'done', 'dropped')),
    attempt     integer not null default 0,             -- the fence: a write names the attempt it belongs to
    crashes     integer not null default 0,             -- attempts that nobody finished
    args        jsonb not null default '{}',
    result      jsonb,
    frames_done bigint not null default 0,
    worker      text,
    lease_until timestamptz,
    touched_at  timestamptz not null default now(),
    primary key (job, stage, number)
) with (fillfactor = 50);
create index steps_running on steps (lease_until) where status = 'running';
create index steps_todo on steps (touched_at) where status = 'todo';

-- How each attempt ended: a job's history.
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
    id      bigint generated always as identity primary key,
    job     text not null references jobs on delete cascade,
    url     text not null,
    status  text not null default 'pending' check (status in ('pending', 'delivered', 'given_up')),
    attempt integer not null default 0,
    next_at timestamptz not null default now(),
    payload bytea                                       -- frozen by the first attempt: every attempt sends the same bytes
);
create index deliveries_job on deliveries (job);
create index deliveries_pending on deliveries (next_at) where status = 'pending';

create table delivery_attempts (
    delivery    bigint not null references deliveries on delete cascade,
    attempt     integer not null,
    at          timestamptz not null default now(),
    http_status integer,
    error       text,
    seconds     real not null,
    primary key (delivery, attempt)
);

-- When somebody last looked after the leases: one row.
create table housekeeping (
    id      boolean primary key default true check (id),
    last_at timestamptz not null default now()
);
insert into housekeeping default values;
