-- The job that a token's Idempotency-Key has made, and what is left of the token's rate: nothing is taken from it,
-- for the same request again must be answered also by a token that has used up its rate or quota.
create function find_keyed(p_hash bytea, p_key text)
returns table (request_id text, body_hash bytea, token uuid, priority smallint, allowed integer, remaining integer, reset_s float8)
language sql stable as $$
    select j.id, j.body_hash, t.id, t.priority, t.burst,
        greatest(0, floor(t.burst - extract(epoch from early.left_s) * t.rate_per_minute / 60))::integer,
        extract(epoch from early.left_s)::float8
    from tokens t
    join jobs j on j.token = t.id and j.idempotency_key = p_key,
    lateral (select greatest(t.due_at, clock_timestamp()) - clock_timestamp() as left_s) early
    where t.hash = p_hash and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp());
$$;
