-- What is stored of a log, in a schema of its own.

create table {schema}.log (
    only_row boolean primary key default true check (only_row),
    name text not null,
    site text not null,
    incarnation uuid not null,
    -- The incarnation that the log was created with: records are stored relative to it, whatever the
    -- log is adopted as later.
    original uuid not null,
    layout integer not null,
    partitions integer not null,
    chained boolean not null,
    created timestamptz not null default now(),
    -- Where the log was last written: a copy that was restored elsewhere, or to an earlier moment, is
    -- recognised by these.
    server text,
    database oid not null,
    relation oid not null,
    timeline bigint not null,
    -- Whether acknowledgements waited for a second server, so that a promoted one has them all.
    replicated boolean not null
);

create table {schema}.partition (
    partition smallint primary key,
    epoch bigint not null default 0,
    floor bigint not null default 0,
    owner text,
    claimed timestamptz,
    lease_until timestamptz
);

comment on table {schema}.partition is
    'An append locks the row of its partition and checks the epoch. The row is not changed by it: a '
    'reader that stays open for hours would keep all old versions of a row that changes every time.';

create table {schema}.event (
    partition smallint not null,
    log_offset bigint not null,
    kind smallint not null,
    tenant text collate "C" not null,
    entity_type text collate "C" not null,
    entity_id text collate "C" not null,
    version bigint not null,
    event_id uuid not null,
    event_type text collate "C" not null,
    schema_version bigint not null,
    effective timestamptz not null,
    recorded timestamptz not null,
    labels text[],
    payload json,
    payload_bytes bytea,
    document jsonb generated always as (payload::jsonb) stored,
    epoch bigint not null,
    batch bigint not null,
    stamp bigint not null,
    link bytea,
    rest bytea not null,
    primary key (partition, log_offset)
);

comment on table {schema}.event is
    'One row per record; kind 1 is an event. Never changed. "payload" is JSON exactly as it was given, '
    '"payload_bytes" whatever is no JSON that jsonb can hold. "rest" holds the record but its names and '
    'payload; what other columns repeat of it is for queries.';

create unique index event_of_entity on {schema}.event
    (entity_type, entity_id, tenant, partition, version) where kind = 1;
create index event_label on {schema}.event using gin (labels) where labels is not null;
create index event_recorded on {schema}.event using brin (recorded);

-- The tables are large and only grow: statistics and freezing should not wait for a fifth of them.
alter table {schema}.event set (
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02);

create table {schema}.area (
    id integer generated always as identity primary key,
    name text collate "C" not null,
    partition smallint not null,
    revision bigint not null,
    unique (name, partition)
);

create table {schema}.entry (
    area integer not null references {schema}.area on delete cascade,
    key bytea not null,
    value bytea,
    document json,
    primary key (area, key)
);

comment on table {schema}.entry is
    'Snapshots, checkpoints and rows of views: what can be made again from the events.';

create view {schema}.view_row as
    select split_part(a.name, '/', 2) as view,
           split_part(a.name, '/', 3)::integer as version,
           convert_from(substring(e.key from 2), 'UTF8') as key,
           e.document::jsonb as row
    from {schema}.entry e join {schema}.area a on a.id = e.area
    where a.name like 'view/%' and e.document is not null;

comment on view {schema}.view_row is 'The rows of all views, as of their last checkpoint.';

create function {schema}.rows_of(wanted text) returns table (key text, "row" jsonb)
language sql stable as $$
    select r.key, r.row from {schema}.view_row r
    where r.view = wanted
      and r.version = (select max(split_part(a.name, '/', 3)::integer) from {schema}.area a
                       where split_part(a.name, '/', 1) = 'view' and split_part(a.name, '/', 2) = wanted)
$$;

comment on function {schema}.rows_of is 'The rows of the newest version of a view.';
