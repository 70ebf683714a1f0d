-- What schema 2 adds: connectors and the record store, webhooks, tokens. All of it follows from the records.

-- How far each source has been read. `generation` counts resets: what was read before one does not count after it.
create table connectors (
    name        text primary key,
    kind        text not null,
    status      text not null,
    cursor      text not null,
    generation  integer not null,
    records     integer not null,
    repeated    integer not null,
    refused     integer not null,
    error       text,
    advanced_at integer,
    updated_at  integer not null
) strict, without rowid;

-- The keys that have started or signalled a run: a source may tell of them again.
create table deliveries (
    source text not null,
    key    text not null,
    seq    integer not null,
    primary key (source, key)
) strict, without rowid;

create table streams (
    stream_key integer primary key,
    name       text not null unique
) strict;

-- The last shape that a stream of a source was taken over with.
create table shapes (
    connector text not null,
    stream    text not null,
    shape     text not null,
    seq       integer not null,
    primary key (connector, stream)
) strict, without rowid;

-- The record store. A changed record moves to the end, so that a reader who goes on from a position misses nothing.
create table stored (
    position   integer primary key,
    stream_key integer not null,
    key        text not null,
    at         integer not null,
    deleted    integer not null,
    data       text not null
) strict;

create unique index stored_by_key on stored (stream_key, key);
create index stored_by_stream on stored (stream_key, position);

create table tokens (
    id         text primary key,
    name       text not null,
    role       text not null,
    digest     text not null,
    created_at integer not null,
    created_by text,
    expires_at integer,
    revoked_at integer,
    used_at    integer
) strict, without rowid;
