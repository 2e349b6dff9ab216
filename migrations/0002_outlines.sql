-- What the timeline needs of archived WAL and of snapshots, in short: an archive of many years is drawn from
-- these, and the indexes themselves are read only for what is looked at closely.
CREATE TABLE outlines (
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    path          TEXT NOT NULL,               -- the object it is of
    body          TEXT NOT NULL,               -- JSON
    gone          INTEGER NOT NULL DEFAULT 0,  -- 1 when the object was not in the store any more
    PRIMARY KEY (repository_id, path)
) STRICT, WITHOUT ROWID;
