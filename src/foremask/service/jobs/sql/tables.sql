-- The service's tables of version 27 (schema.py).

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
create index steps_ready on steps ((stage = 'segment'), touched_at) where status = 'todo';
create index steps_turn on steps (token, (stage = 'segment'), (attempt = 0), (stage <> 'join'), seq, number)
    where status = 'todo';

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
