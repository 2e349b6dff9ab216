-- The catalog: a cache of the repositories this machine knows, plus this machine's own jobs.
-- Everything in repositories, clusters, wal_segments and snapshots is rebuilt by `holdfast repo attach`.

CREATE TABLE repositories (
    id          TEXT PRIMARY KEY,              -- UUID of the repository (holdfast.json)
    url         TEXT NOT NULL UNIQUE,
    unlock      TEXT NOT NULL CHECK (unlock IN ('keychain', 'passphrase', 'demo')),
    attached_at TEXT NOT NULL                  -- RFC 3339, UTC
) STRICT;

CREATE TABLE clusters (
    id                TEXT PRIMARY KEY,        -- UUID, the same in the repository
    name              TEXT NOT NULL UNIQUE,
    repository_id     TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    dsn               TEXT NOT NULL,           -- without secrets
    system_identifier TEXT NOT NULL,           -- decimal, 64 bits
    server_version    INTEGER NOT NULL,        -- server_version_num
    mode              TEXT NOT NULL CHECK (mode IN ('physical', 'physical_via_database')),
    segment_size      INTEGER NOT NULL,        -- bytes of one WAL segment
    slot              TEXT NOT NULL,           -- physical replication slot on the server
    created_at        TEXT NOT NULL,
    demo              INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE jobs (
    id          TEXT PRIMARY KEY,              -- UUID version 7: ordered by time
    kind        TEXT NOT NULL,
    cluster     TEXT,
    title       TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled', 'interrupted')),
    created_at  TEXT NOT NULL,
    finished_at TEXT,
    error       TEXT,                          -- error object, JSON
    result      TEXT                           -- result document, JSON
) STRICT;
CREATE INDEX jobs_by_time ON jobs (created_at);

-- Metadata of archived WAL, so that it is read from the store once.
CREATE TABLE wal_objects (
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    path          TEXT NOT NULL,
    metadata      TEXT NOT NULL,               -- segment index, JSON
    PRIMARY KEY (repository_id, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE documents (
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    path          TEXT NOT NULL,
    body          TEXT NOT NULL,               -- JSON
    PRIMARY KEY (repository_id, path)
) STRICT, WITHOUT ROWID;
