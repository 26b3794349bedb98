-- Of the functions those go whose arguments or answers have changed; schema.sql replaces the others.

alter table uploads add column claim text;
alter table housekeeping add column worker text;
drop function if exists recover(float8, float8, float8, integer, jsonb, jsonb);
drop function if exists reserve_result(text, bigint, bigint, bigint);
