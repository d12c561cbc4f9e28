-- Which nodes live, and which of them should own what.

create table {schema}.node (
    node uuid primary key,
    -- The order of joining: the first of the living makes plans.
    turn bigint generated always as identity,
    name text not null,
    cluster text not null,
    application text not null,
    address text not null,
    zone text not null,
    weight bigint not null,
    build text not null,
    joined timestamptz not null,
    beaten timestamptz not null,
    lease_until timestamptz not null,
    -- What it has in memory, an element for each partition.
    held_partition smallint[] not null default '{}',
    held_as_owner boolean[] not null default '{}',
    held_offset bigint[] not null default '{}',
    held_epoch bigint[] not null default '{}'
) with (
    -- A beat changes a row a few times a second. No indexed column changes, and pages are filled to a
    -- tenth by new rows, so the new version fits into the same page (a HOT update), the index stays as
    -- it is, and whoever comes to the page next prunes the old versions. What a reader that stays open
    -- for hours keeps of them (some hundred bytes a beat) goes with the next vacuum, which does not
    -- wait for a share of a table that has a handful of rows. Arrays over many partitions are kept
    -- beside the row, where only vacuum frees space.
    fillfactor = 10,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1000);

comment on table {schema}.node is
    'The nodes that joined. One whose lease_until is past is gone, whether its row is still here or not.';

create table {schema}.plan (
    only_row boolean primary key default true check (only_row),
    number bigint not null,
    made timestamptz not null
);

comment on table {schema}.plan is
    'The number of the last plan. Who joins, leaves or plans locks the row; who beats does not.';

insert into {schema}.plan (number, made) values (0, clock_timestamp());

create table {schema}.place (
    partition smallint primary key,
    owner uuid,
    standbys uuid[] not null,
    since timestamptz not null,
    reason text not null
);

comment on table {schema}.place is
    'The last plan: who should own each partition, and why. Who does own it is in "partition".';

create function {schema}.micros(moment timestamptz) returns bigint
language sql stable parallel safe as $$
    select (extract(epoch from moment) * 1000000)::bigint
$$;

-- After a clock that was set back, leases would last longer by as much: a lease that began in the
-- future by more than its own length is none.
create function {schema}.lives(beaten timestamptz, lease_until timestamptz, moment timestamptz)
returns boolean language sql stable parallel safe as $$
    select lease_until > moment and beaten < moment + (lease_until - beaten)
$$;

-- The living, and the plan if it is not the one that the caller knows.
create function {schema}.roster(known bigint, known_made bigint) returns json
language sql volatile as $$
    select json_build_object(
        'outcome', 'roster',
        'time', {schema}.micros(t.moment),
        'number', p.number,
        'made', {schema}.micros(p.made),
        'places', case when (p.number, {schema}.micros(p.made)) is distinct from (known, known_made) then (
            select coalesce(json_agg(json_build_object(
                'owner', l.owner, 'standbys', l.standbys, 'since', {schema}.micros(l.since),
                'reason', l.reason) order by l.partition), '[]')
            from {schema}.place l) end,
        'members', (
            select coalesce(json_agg(json_build_object(
                'node', n.node, 'name', n.name, 'cluster', n.cluster, 'application', n.application,
                'address', n.address, 'zone', n.zone, 'weight', n.weight, 'build', n.build,
                'joined', {schema}.micros(n.joined), 'until', {schema}.micros(n.lease_until),
                'partitions', n.held_partition, 'as_owner', n.held_as_owner,
                'offsets', n.held_offset, 'epochs', n.held_epoch) order by n.turn), '[]')
            from {schema}.node n where {schema}.lives(n.beaten, n.lease_until, t.moment)))
    from {schema}.plan p, (select clock_timestamp() as moment offset 0) t
$$;

-- Removes those whose leases have run out. A beat that is on its way is waited for, so whoever is gone
-- here is gone for good; a member that a look has missed may have beaten at that very moment.
create function {schema}.sweep() returns void language plpgsql as $$
declare
    moment timestamptz;
begin
    perform from {schema}.plan for update;
    moment := clock_timestamp();
    delete from {schema}.node n where not {schema}.lives(n.beaten, n.lease_until, moment);
end
$$;

create function {schema}.join_cluster(
    my_incarnation uuid, me uuid, my_name text, my_cluster text, my_application text, my_address text,
    my_zone text, my_weight bigint, my_build text, my_layout bigint, my_partitions bigint,
    lease bigint, known bigint, known_made bigint) returns json
language plpgsql as $$
declare
    here record;
    other record;
    moment timestamptz;
begin
    perform {schema}.sweep();
    select l.incarnation, l.layout, l.partitions into here from {schema}.log l;
    if here.incarnation <> my_incarnation then
        return json_build_object('outcome', 'replaced');
    end if;
    if here.layout <> my_layout or here.partitions <> my_partitions then
        return json_build_object(
            'outcome', 'other_layout', 'number', here.layout, 'partitions', here.partitions);
    end if;
    select n.cluster, n.application into other from {schema}.node n where n.node <> me
        order by n.cluster <> my_cluster desc, n.application <> my_application desc, n.turn limit 1;
    if other.cluster <> my_cluster then
        return json_build_object('outcome', 'other_cluster', 'living', other.cluster);
    end if;
    if other.application <> my_application then
        return json_build_object('outcome', 'other_application', 'living', other.application);
    end if;
    select n.address, n.lease_until into other from {schema}.node n where n.name = my_name and n.node <> me;
    if found then
        return json_build_object(
            'outcome', 'taken', 'address', other.address, 'until', {schema}.micros(other.lease_until));
    end if;
    moment := clock_timestamp();
    insert into {schema}.node as n (node, name, cluster, application, address, zone, weight, build,
        joined, beaten, lease_until)
    values (me, my_name, my_cluster, my_application, my_address, my_zone, my_weight, my_build,
        moment, moment, moment + lease * interval '1 microsecond')
    on conflict (node) do update set name = my_name, cluster = my_cluster, application = my_application,
        address = my_address, zone = my_zone, weight = my_weight, build = my_build,
        beaten = excluded.beaten, lease_until = excluded.lease_until;
    return {schema}.roster(known, known_made);
end
$$;

create function {schema}.beat(
    me uuid, my_weight bigint, lease bigint, partitions smallint[], as_owner boolean[],
    offsets bigint[], epochs bigint[], known bigint, known_made bigint) returns json
language plpgsql as $$
begin
    -- What a crash of the server takes with it costs a node no more than joining again. To wait for
    -- the disk, or for replicas, could cost it its lease.
    perform set_config('synchronous_commit', 'off', true);
    update {schema}.node n set
        weight = my_weight, beaten = clock_timestamp(),
        lease_until = clock_timestamp() + lease * interval '1 microsecond',
        held_partition = partitions, held_as_owner = as_owner, held_offset = offsets, held_epoch = epochs
    where n.node = me and {schema}.lives(n.beaten, n.lease_until, clock_timestamp());
    if not found then
        return json_build_object('outcome', 'expired');
    end if;
    return {schema}.roster(known, known_made);
end
$$;

create function {schema}.make_plan(
    me uuid, next bigint, owners uuid[], standbys text[], since bigint[], reasons text[]) returns json
language plpgsql as $$
declare
    assigner uuid;
    stored bigint;
begin
    perform {schema}.sweep();
    select n.node into assigner from {schema}.node n order by n.turn limit 1;
    if assigner is distinct from me then
        return json_build_object('outcome', 'not_assigner', 'assigner', assigner);
    end if;
    select p.number into stored from {schema}.plan p;
    if next <> stored + 1 then
        return json_build_object('outcome', 'superseded', 'stored', stored);
    end if;
    insert into {schema}.place as l (partition, owner, standbys, since, reason)
    select (u.at - 1)::smallint, u.owner, u.standbys::uuid[],
        timestamptz 'epoch' + u.since * interval '1 microsecond', u.reason
    from unnest(owners, standbys, since, reasons) with ordinality as u (owner, standbys, since, reason, at)
    on conflict (partition) do update set
        owner = excluded.owner, standbys = excluded.standbys,
        since = excluded.since, reason = excluded.reason
    where (l.owner, l.standbys, l.since, l.reason)
        is distinct from (excluded.owner, excluded.standbys, excluded.since, excluded.reason);
    update {schema}.plan set number = next, made = clock_timestamp();
    return json_build_object('outcome', 'done');
end
$$;

create function {schema}.leave_cluster(me uuid) returns json language plpgsql as $$
begin
    perform from {schema}.plan for update;
    delete from {schema}.node n where n.node = me;
    return json_build_object('outcome', 'done');
end
$$;
