-- What the network said of a clip (docs/adr/0155) is large: it is kept for a day, and counts against the quota until then.

create or replace function count_stored() returns trigger language plpgsql as $$
begin
    new.stored := case when new.swept_at is not null then 0
            else new.fetched + case when new.source_key like 'uploads/%' then 1 else 2 end
                * coalesce((new.clip ->> 'size_bytes')::bigint, 0) end
        + case when new.expired_at is not null or new.result_key is null then 0
            else coalesce((new.report ->> 'bytes')::bigint, 0)
                + coalesce((new.report ->> 'mask_bytes')::bigint, 0)
                + coalesce((new.report ->> 'network_bytes')::bigint, 0) end;
    if tg_op = 'INSERT' then
        update tokens set stored = stored + new.stored where id = new.token and new.stored <> 0;
    elsif new.stored <> old.stored then
        update tokens set stored = stored + new.stored - old.stored where id = new.token;
    end if;
    return new;
end $$;

create index jobs_with_network on jobs (ended_at) where report ? 'network_bytes';
