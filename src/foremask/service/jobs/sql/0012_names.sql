-- What a job's caller knows its clip by, and the list of a token's jobs (docs/adr/0139).

alter table uploads add column name text;
alter table jobs add column name text;
create index jobs_of_token on jobs (token, seq desc);

-- The name of the uploaded file, or the last part of a URL's path where that is plainly a file's name:
-- other URLs may hold a secret there, and are forgotten with the job's end.
create function name_job() returns trigger language plpgsql as $$
begin
    if new.source_key is not null then
        new.name := coalesce((select name from uploads where key = new.source_key),
                             (select name from jobs where id = split_part(new.source_key, '/', 2)));
    else
        new.name := substring(split_part(split_part(new.video_url, '#', 1), '?', 1)
                              from '/([^/%]{1,200}\.(?:mp4|m4v|mov|webm|mkv|avi|gif))$');
    end if;
    return new;
end $$;
create trigger name_job before insert on jobs for each row execute function name_job();
