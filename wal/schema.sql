-- Schema 1 of the journal. `records` is the truth; every other table but `meta` is derived from it in the same
-- transaction and can be computed anew. docs/journal.md explains each column.

create table meta (
    key   text primary key,
    value any not null
) strict, without rowid;

-- The log. No second index: one that orders by run costs two thirds of the write speed, and a run's history is a walk
-- along prev_seq. `body` is last because it may spill onto overflow pages that the walk then never reads.
create table records (
    seq      integer primary key,
    run_key  integer not null,
    prev_seq integer not null,
    at       integer not null,
    digest   blob not null,
    body     text not null
) strict;

create table runs (
    run_key        integer primary key,
    id             text not null unique,
    workflow       text not null,
    version        text,
    phase          text not null,
    paused         integer not null,
    status         text not null,
    waiting_on     text,
    waiting_until  integer,
    session_id     text,
    tenant         text,
    classification text not null,
    queue          text,
    priority       integer not null,
    parent_id      text,
    trace_id       text,
    attributes     text not null,
    created_at     integer not null,
    updated_at     integer not null,
    ended_at       integer,
    error          text,
    first_seq      integer not null,
    last_seq       integer not null,
    end_seq        integer
) strict;

-- Every index ends with the run_key by nature, so each also gives its runs newest first.
create index runs_by_status   on runs (status);
create index runs_by_workflow on runs (workflow);
create index runs_by_session  on runs (session_id) where session_id is not null;
create index runs_by_tenant   on runs (tenant) where tenant is not null;
create index runs_by_parent   on runs (parent_id) where parent_id is not null;

create table run_attributes (
    key     text not null,
    value   text not null,
    run_key integer not null,
    primary key (key, value, run_key)
) strict, without rowid;

create table run_counts (
    workflow text not null,
    status   text not null,
    n        integer not null,
    primary key (workflow, status)
) strict, without rowid;

create table timers (
    run_key integer not null,
    key     text not null,
    due_at  integer not null,
    primary key (run_key, key)
) strict, without rowid;

create index timers_by_due on timers (due_at);

create table signals (
    run_key   integer not null,
    signal_id text not null,
    seq       integer not null,
    primary key (run_key, signal_id)
) strict, without rowid;

create table approvals (
    id           integer primary key,
    run_key      integer not null,
    key          text not null,
    title        text not null,
    detail       text not null,
    form         text not null,
    roles        text not null,
    quorum       integer not null,
    risk         text not null,
    four_eyes    integer not null,
    status       text not null,
    requested_at integer not null,
    expires_at   integer,
    payload_hash text not null,
    votes        text not null,
    decided_at   integer
) strict;

create index approvals_by_run  on approvals (run_key, key);
create index approvals_by_status on approvals (status);

create table sessions (
    opened_seq     integer primary key,
    id             text not null unique,
    status         text not null,
    tenant         text,
    subject        text,
    classification text not null,
    ttl            real,
    expires_at     integer,
    on_close       text not null,
    attributes     text not null,
    trace_id       text,
    created_at     integer not null,
    closed_at      integer
) strict;

create index sessions_by_expiry on sessions (expires_at) where status = 'open' and expires_at is not null;
create index sessions_by_status on sessions (status);
create index sessions_by_tenant on sessions (tenant) where tenant is not null;

-- A deleted value keeps its row, so that its version never goes back.
create table state (
    scope          text not null,
    key            text not null,
    version        integer not null,
    deleted        integer not null,
    tenant         text,
    classification text not null,
    updated_at     integer not null,
    value          text not null,
    unique (scope, key)
) strict;

create table answers (
    principal       text not null,
    idempotency_key text not null,
    digest          text not null,
    status          integer not null,
    body            text not null,
    seq             integer not null,
    at              integer not null,
    unique (principal, idempotency_key)
) strict;
