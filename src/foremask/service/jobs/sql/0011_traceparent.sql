-- The trace that a job's caller has begun (docs/adr/0105): the W3C header as it came, null where there was none.

alter table jobs add column traceparent text;

create function admit(
    p_id text, p_token uuid, p_video_url text, p_source_key text, p_preset text, p_quality text,
    p_webhook_url text, p_idempotency_key text, p_body_hash bytea, p_clip jsonb, p_queue_limit integer,
    p_storage_limit bigint, p_traceparent text)
returns table (outcome text, request_id text, allowed bigint, counted bigint)
language plpgsql as $$
begin
    return query select * from admit(p_id, p_token, p_video_url, p_source_key, p_preset, p_quality, p_webhook_url,
        p_idempotency_key, p_body_hash, p_clip, p_queue_limit, p_storage_limit);
    if p_traceparent is not null then                    -- nothing to do where the job was not made
        update jobs set traceparent = p_traceparent where id = p_id and traceparent is null;
    end if;
end $$;
