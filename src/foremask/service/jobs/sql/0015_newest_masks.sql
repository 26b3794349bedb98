-- A small picture of the newest mask of a job under way (docs/adr/0159): at most one a job, gone with its end. It may be
-- lost at any time, so it costs no write-ahead log: after a crash of the database the table is empty.

create unlogged table newest_masks (
    job text primary key,                               -- no foreign key: its lock would cross those of a job's end
    png bytea not null check (length(png) <= 32768)
);

create function forget_newest_mask() returns trigger language plpgsql as $$
begin
    delete from newest_masks where job = old.id;
    return null;
end $$;
create trigger forget_newest_mask after update of ended_at on jobs for each row
    when (new.ended_at is not null) execute function forget_newest_mask();
create trigger forget_newest_mask_too after delete on jobs for each row execute function forget_newest_mask();
