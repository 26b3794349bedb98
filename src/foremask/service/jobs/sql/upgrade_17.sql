-- Of the functions those go whose arguments or answers have changed; schema.sql replaces the others.

-- A hint that has a time has no frame: it was written with frame 0.
update jobs set result = jsonb_set(result, '{hints}', (
    select jsonb_agg(case when jsonb_typeof(hint -> 'time_s') = 'number' then hint - 'frame' else hint end order by n)
    from jsonb_array_elements(result -> 'hints') with ordinality as h (hint, n)))
where jsonb_array_length(result -> 'hints') > 0;
alter table uploads add column claim text;
alter table housekeeping add column worker text;
drop function if exists recover(float8, float8, float8, integer, jsonb, jsonb);
drop function if exists reserve_result(text, bigint, bigint, bigint);
