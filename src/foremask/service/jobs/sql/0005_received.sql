-- What the playground's own receiver was called back with: signed by us, a few for each token, for an hour.
create table received (
    id         bigint generated always as identity primary key,
    token      uuid not null references tokens on delete cascade,
    request_id text not null,
    stamp      text not null,
    signature  text not null,
    body       text not null,
    at         timestamptz not null default now()
);
create index received_token on received (token, id);
create index received_at on received (at);
