//! Table rescue against real servers: rows followed through foreign keys, merged back into the live
//! database or written to files, and everything that is refused.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, Protected, failure, no_server_of};
use holdfast_tests::proxy::FaultProxy;
use holdfast_tests::{wait_for, wait_for_value};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);

/// Keys of several columns, a table that refers to itself, a circle, a partitioned table, generated and
/// identity columns, odd names, and parents that other rows need.
const SCHEMA: &str = r#"
CREATE SCHEMA "Odd Schema";
CREATE TABLE regions (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE venues (id int PRIMARY KEY, region int NOT NULL REFERENCES regions, name text);
CREATE TABLE weddings (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, venue int REFERENCES venues, name text, main_guest int,
  obsolete text, details jsonb, day timestamptz, picture bytea, share float8);
CREATE TABLE guests (
  wedding int NOT NULL REFERENCES weddings ON DELETE CASCADE, no int, name text, host int, note text,
  PRIMARY KEY (wedding, no), FOREIGN KEY (wedding, host) REFERENCES guests (wedding, no) ON DELETE CASCADE);
ALTER TABLE weddings ADD CONSTRAINT main FOREIGN KEY (id, main_guest) REFERENCES guests (wedding, no);
CREATE TABLE "Odd Schema"."Odd ""Table"" näme" (
  "Key; DROP" serial PRIMARY KEY, "select" int REFERENCES weddings ON DELETE CASCADE, "a,b)" text);
CREATE TABLE items (
  wedding int NOT NULL REFERENCES weddings ON DELETE CASCADE, id bigserial, total numeric(10,2),
  doubled numeric GENERATED ALWAYS AS (total * 2) STORED, PRIMARY KEY (wedding, id)) PARTITION BY RANGE (wedding);
CREATE TABLE items_low PARTITION OF items FOR VALUES FROM (0) TO (3);
CREATE TABLE items_high PARTITION OF items DEFAULT;
CREATE TABLE payments (item_wedding int, item bigint, paid int, id int PRIMARY KEY,
  FOREIGN KEY (item_wedding, item) REFERENCES items (wedding, id) ON DELETE CASCADE);
"#;

const ROWS: &str = r#"
INSERT INTO regions VALUES (1, 'north'), (2, 'south');
INSERT INTO venues VALUES (10, 1, 'barn'), (20, 2, 'castle'), (30, 1, 'beach');
INSERT INTO weddings (venue, name, obsolete, details, day, picture, share)
  SELECT n * 10, E'Pair\t' || n || E'\\ "x" ''y''', 'old', jsonb_build_object('n', n), '2026-06-14 12:00:00.123456+02',
         decode('00ff5c27', 'hex'), 0.1 + n FROM generate_series(1, 3) AS n;
INSERT INTO guests SELECT w, g, 'guest ' || g, CASE WHEN g > 1 THEN g - 1 END, NULLIF('', '') FROM generate_series(1, 3) AS w, generate_series(1, 40) AS g;
UPDATE weddings SET main_guest = 7;
INSERT INTO "Odd Schema"."Odd ""Table"" näme" ("select", "a,b)") SELECT w, E'line\nbreak \\. ' || w FROM generate_series(1, 3) AS w;
INSERT INTO items (wedding, total) SELECT w, i * 1.25 FROM generate_series(1, 3) AS w, generate_series(1, 30) AS i;
INSERT INTO payments SELECT wedding, id, 5, id FROM items;
"#;

/// All there is of one wedding, in a form that can be compared.
fn of_wedding(id: u32) -> String {
    format!(
        r#"SELECT md5(string_agg(line, E'\n' ORDER BY line COLLATE "C")) FROM (
          SELECT 'w' || ROW(id, venue, name, main_guest, details, day, picture, share)::text AS line FROM weddings WHERE id = {id}
          UNION ALL SELECT 'g' || g::text FROM guests g WHERE wedding = {id}
          UNION ALL SELECT 'o' || o::text FROM "Odd Schema"."Odd ""Table"" näme" o WHERE "select" = {id}
          UNION ALL SELECT 'i' || i::text FROM items i WHERE wedding = {id}
          UNION ALL SELECT 'p' || p::text FROM payments p WHERE item_wedding = {id}
          UNION ALL SELECT 'v' || v::text FROM venues v WHERE v.id = (SELECT venue FROM weddings WHERE id = {id})) AS t"#
    )
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim().to_owned()
}

/// A site whose second wedding was deleted, with everything of it and its venue, while life went on.
fn after_the_accident(major: u32) -> (Protected, String, [String; 2]) {
    let server = TestServer::start(major).unwrap();
    server.psql(SCHEMA).unwrap();
    server.psql(ROWS).unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    let server = &site.server;
    server.psql("UPDATE guests SET name = 'renamed' WHERE no = 3").unwrap();
    let before = [2, 3].map(|id| server.psql(&of_wedding(id)).unwrap());
    let xid = last_line(
        &server
            .psql(
                "UPDATE weddings SET main_guest = NULL WHERE id = 2; DELETE FROM weddings WHERE id = 2; \
                 DELETE FROM venues WHERE id = 20; DELETE FROM regions WHERE id = 2; SELECT pg_current_xact_id()",
            )
            .unwrap(),
    );
    for later in [
        "UPDATE guests SET name = 'changed since' WHERE wedding = 3 AND no = 5",
        "UPDATE weddings SET name = 'changed since' WHERE id = 3",
        "INSERT INTO weddings (venue, name) VALUES (10, 'new since')",
        "ALTER TABLE weddings DROP COLUMN obsolete",
        "ALTER TABLE weddings ADD COLUMN added int NOT NULL DEFAULT 7",
        "ALTER TABLE payments ALTER paid TYPE bigint",
        "SELECT setval('items_id_seq', 1)",
        "SELECT setval('weddings_id_seq', 1)",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$",
        "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON guests FOR EACH ROW EXECUTE FUNCTION touch()",
    ] {
        server.psql(later).unwrap();
    }
    site.archive().unwrap();
    (site, format!("xid:{xid}"), before)
}

/// What was merged of one table.
fn merged<'a>(result: &'a Value, table: &str) -> &'a Value {
    let tables = result["tables"].as_array().unwrap();
    &tables.iter().find(|t| t["table"] == table).unwrap()["merged"]
}

/// The private copies that there are.
/// The private copies, and what belongs to them.
fn copies(site: &Protected) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.root().join("home/restored"));
    entries.into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// The private copies alone.
fn data_directories(site: &Protected) -> Vec<PathBuf> {
    let hidden =
        |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    copies(site).into_iter().filter(|path| !hidden(path)).collect()
}

fn nothing_is_left(site: &Protected) {
    let left = copies(site);
    assert!(left.is_empty(), "{left:?}");
}

fn brings_a_wedding_back(major: u32) {
    let (site, target, [second, third]) = after_the_accident(major);
    let server = &site.server;
    let dsn = server.dsn();
    let run = |condition: &str, more: &[&str]| {
        let line = [
            &["tables", CLUSTER, "--target", &target, "--exclusive", "--table", "weddings"][..],
            &["--where", condition, "--follow", "--into", &dsn],
            more,
        ]
        .concat();
        site.cli.json(&line).unwrap()
    };
    let before = server.psql(&of_wedding(3)).unwrap();

    // A look changes nothing.
    let review = run("id IN (2, 3)", &["--review"]);
    assert_eq!(review["verified"], true, "{review:#}");
    assert_eq!(merged(&review, "public.weddings")["missing"], 1, "{review:#}");
    assert_eq!(merged(&review, "public.weddings")["changed"], 1);
    assert_eq!(merged(&review, "public.guests")["missing"], 40);
    assert_eq!(merged(&review, "public.guests")["changed"], 1);
    assert_eq!(merged(&review, "public.guests")["same"], 39);
    assert_eq!(merged(&review, "public.items")["missing"], 30);
    assert_eq!(merged(&review, "public.payments")["missing"], 30);
    assert_eq!(merged(&review, "public.venues")["missing"], 1);
    assert_eq!(merged(&review, "public.regions")["missing"], 1);
    assert_eq!(merged(&review, "public.weddings")["columns_left_out"][0], "obsolete");
    assert_eq!(merged(&review, "public.payments")["columns_widened"][0], "paid: integer, bigint");
    let conflict = &merged(&review, "public.guests")["conflicts"][0];
    assert_eq!(conflict["key"], serde_json::json!({ "wedding": "3", "no": "5" }));
    assert_eq!(conflict["then"]["name"], "guest 5", "{conflict:#}");
    assert_eq!(conflict["now"]["name"], "changed since");
    assert_eq!(server.psql("SELECT count(*) FROM weddings WHERE id = 2").unwrap(), "0");

    // Back with everything, as it was, though a trigger would make something else of it.
    let back = run("id = 2", &["--without-triggers"]);
    assert_eq!(server.psql(&of_wedding(2)).unwrap(), second, "{back:#}");
    assert_eq!(merged(&back, "public.guests")["inserted"], 40);
    assert_eq!(merged(&back, "public.guests")["altered"], 0);
    assert_eq!(server.psql("SELECT added FROM weddings WHERE id = 2").unwrap(), "7");
    assert_eq!(
        server.psql("SELECT tgenabled FROM pg_trigger WHERE tgname = 'touch'").unwrap(),
        "O"
    );
    assert_eq!(server.psql("SELECT last_value FROM weddings_id_seq").unwrap(), "2");
    let items = server.psql("SELECT max(id) FROM items WHERE wedding = 2").unwrap();
    assert_eq!(server.psql("SELECT last_value FROM items_id_seq").unwrap(), items);
    // The other weddings are as they were, the changed one, too.
    assert_eq!(server.psql(&of_wedding(3)).unwrap(), before);
    assert_eq!(server.psql("SELECT count(*) FROM weddings").unwrap(), "4");

    // Only when told so is a changed row set back; the trigger runs, and that is told.
    let over = run("id = 3", &["--overwrite"]);
    assert_eq!(merged(&over, "public.guests")["overwritten"], 1, "{over:#}");
    assert_eq!(merged(&over, "public.guests")["altered"], 1);
    assert_eq!(merged(&over, "public.guests")["triggers"][0], "touch");
    server.psql("ALTER TABLE guests DISABLE TRIGGER USER").unwrap();
    server.psql("UPDATE guests SET note = NULL").unwrap();
    assert_eq!(server.psql(&of_wedding(3)).unwrap(), third);
    nothing_is_left(&site);
}

#[test]
fn a_deleted_wedding_comes_back_on_15() {
    brings_a_wedding_back(15);
}

#[test]
fn a_deleted_wedding_comes_back_on_17() {
    brings_a_wedding_back(17);
}

#[test]
fn rows_and_tables_go_to_files_that_load() {
    let (site, target, [second, _]) = after_the_accident(17);
    let server = &site.server;
    let run = |more: &[&str]| {
        let line = [&["tables", CLUSTER, "--target", &target, "--exclusive", "--table"][..], more]
            .concat();
        site.cli.json(&line).unwrap()
    };
    let file = |name: &str| site.root().join(name).display().to_string();
    let program = |name: &str, arguments: &[&str]| {
        let told = server.command(name).args(arguments).output().unwrap();
        assert!(told.status.success(), "{name}: {}", String::from_utf8_lossy(&told.stderr));
    };

    // One wedding as SQL, into a database that has another one of the same venue's region.
    let rows = file("rows.sql");
    run(&["weddings", "--where", "id = 2", "--follow", "--into", &rows]);
    server.psql("CREATE DATABASE rows").unwrap();
    server.psql_in("rows", SCHEMA).unwrap();
    server.psql_in("rows", "INSERT INTO regions VALUES (2, 'is there')").unwrap();
    program("psql", &["-X", "-q", "-d", "rows", "-f", &rows]);
    assert_eq!(server.psql_in("rows", &of_wedding(2)).unwrap(), second);
    assert_eq!(server.psql_in("rows", "SELECT name FROM regions").unwrap(), "is there");
    assert_eq!(server.psql_in("rows", "SELECT nextval('weddings_id_seq')").unwrap(), "3");

    // The same in pg_dump's own format. Circles are loaded as pg_restore advises.
    let dump = file("rows.dump");
    let told = run(&["weddings", "--where", "id = 2", "--follow", "--into", &dump]);
    assert!(told["bytes"].as_u64().unwrap() > 0);
    server.psql("CREATE DATABASE dump").unwrap();
    server.psql_in("dump", SCHEMA).unwrap();
    program("pg_restore", &["--data-only", "--disable-triggers", "-d", "dump", &dump]);
    assert_eq!(server.psql_in("dump", &of_wedding(2)).unwrap(), second);

    // A whole partitioned table with its definition, and one column condition.
    let whole = file("whole.sql");
    run(&["regions", "--table", "items", "--into", &whole]);
    let text = fs::read_to_string(&whole).unwrap();
    assert!(text.contains("PARTITION BY RANGE") && text.contains("ATTACH PARTITION"), "{text}");
    assert_eq!(text.lines().filter(|l| l.ends_with("\t36.25")).count(), 3);
    let some = file("some.sql");
    let told = run(&[
        "\"Odd Schema\".\"Odd \"\"Table\"\" näme\"",
        "--where",
        "\"select\" = 2 -- two",
        "--into",
        &some,
    ]);
    assert_eq!(told["tables"][0]["rows"], 1);
    nothing_is_left(&site);
}

#[test]
fn what_cannot_be_rescued_is_refused() {
    let server = TestServer::start(17).unwrap();
    for statement in [
        "CREATE TABLE no_key (n int)",
        "CREATE TABLE narrowed (id int PRIMARY KEY, n bigint)",
        "CREATE TABLE filled (id int PRIMARY KEY)",
        "CREATE TABLE parents (id int PRIMARY KEY)",
        "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents)",
        "CREATE UNLOGGED TABLE brief (id int PRIMARY KEY)",
        "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM no_key",
        "INSERT INTO no_key VALUES (1)",
        "INSERT INTO narrowed VALUES (1, 1)",
        "INSERT INTO filled VALUES (1)",
        "INSERT INTO parents VALUES (1)",
        "INSERT INTO children VALUES (1, 1)",
    ] {
        server.psql(statement).unwrap();
    }
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    let server = &site.server;
    let xid = last_line(
        &server
            .psql(
                "DELETE FROM children; DELETE FROM parents; DELETE FROM filled; DELETE FROM narrowed; \
                 SELECT pg_current_xact_id()",
            )
            .unwrap(),
    );
    server.psql("ALTER TABLE narrowed ALTER n TYPE int").unwrap();
    server.psql("ALTER TABLE filled ADD must text NOT NULL").unwrap();
    site.archive().unwrap();
    let target = format!("xid:{xid}");
    let dsn = server.dsn();
    let refused = |more: &[&str]| {
        let line = [&["tables", CLUSTER, "--target", &target, "--exclusive"][..], more].concat();
        let (code, error) = failure(&site.cli, &line).unwrap();
        (code, error["code"].as_str().unwrap().to_owned())
    };
    let told = |code: i32, name: &str| (code, name.to_owned());
    let taken = site.root().join("taken.sql");
    fs::write(&taken, "mine").unwrap();
    let taken = taken.display().to_string();
    assert_eq!(refused(&["--table", "parents", "--into", &taken]), told(3, "file_exists"));
    assert_eq!(
        refused(&["--table", "a", "--table", "b", "--where", "true", "--into", "x.sql"]),
        told(2, "usage")
    );
    let other = site.root().join("other.sql").display().to_string();
    assert_eq!(refused(&["--table", "parents", "--review", "--into", &other]), told(2, "usage"));
    assert_eq!(refused(&["--table", "nowhere", "--into", &other]), told(4, "not_found"));
    assert_eq!(
        refused(&["--table", "parents", "--where", "nonsense(", "--into", &other]),
        told(2, "usage")
    );
    // More than a condition: a second statement, and what would end the copying of rows.
    for sql in ["true); DROP TABLE parents; SELECT (true", "true)) TO PROGRAM 'false' --"] {
        let line = ["--table", "parents", "--where", sql, "--into", &other];
        assert_eq!(refused(&line), told(2, "usage"), "{sql}");
    }
    assert_eq!(refused(&["--table", "brief", "--into", &other]), told(3, "unlogged_table"));
    assert_eq!(refused(&["--table", "counted", "--into", &other]), told(3, "materialized_view"));
    let gone = server.dsn().replace("dbname=postgres", "dbname=template1");
    assert_eq!(refused(&["--table", "no_key", "--into", &gone]), told(3, "live_table_missing"));
    assert_eq!(refused(&["--table", "no_key", "--into", &dsn]), told(3, "no_primary_key"));
    assert_eq!(refused(&["--table", "narrowed", "--into", &dsn]), told(3, "column_type_changed"));
    assert_eq!(refused(&["--table", "filled", "--into", &dsn]), told(3, "column_added"));
    // A child without its parent: nothing of it is written.
    assert_eq!(refused(&["--table", "children", "--into", &dsn]), told(3, "live_constraint"));
    assert_eq!(server.psql("SELECT count(*) FROM children").unwrap(), "0");
    // Both in one go, whichever is named first.
    let line = [
        "tables",
        CLUSTER,
        "--target",
        &target,
        "--exclusive",
        "--table",
        "children",
        "--table",
        "parents",
        "--into",
        &dsn,
    ];
    let both = site.cli.json(&line).unwrap();
    assert_eq!(merged(&both, "public.children")["inserted"], 1, "{both:#}");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "mine");
    assert!(!std::path::Path::new(&other).exists());
    nothing_is_left(&site);
}

/// A site whose table `t` lost its rows; the target is the transaction that deleted them.
fn after_a_deletion(rows: u32) -> (Protected, String) {
    let server = TestServer::start(17).unwrap();
    server.psql("CREATE TABLE t (id int PRIMARY KEY, note text)").unwrap();
    server
        .psql(&format!(
            "INSERT INTO t SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, {rows}) n"
        ))
        .unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    let xid = last_line(&site.server.psql("DELETE FROM t; SELECT pg_current_xact_id()").unwrap());
    site.archive().unwrap();
    (site, format!("xid:{xid}"))
}

/// A session on the live database that has written to `t` and does not end.
struct Writer(Child);

impl Writer {
    fn of(server: &TestServer) -> Self {
        let mut psql = server.command("psql");
        psql.args(["-X", "-q"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut psql = psql.spawn().unwrap();
        let pipe = psql.stdin.as_mut().unwrap();
        pipe.write_all(b"BEGIN; INSERT INTO t VALUES (0, 'open');\n").unwrap();
        wait_for("the open transaction", PATIENCE, || {
            let sql = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'RowExclusiveLock'";
            server.psql(sql).is_ok_and(|n| n == "1")
        });
        Self(psql)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sessions on the live database that are neither this test's nor background processes.
const MERGES: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                      AND application_name <> 'holdfast-tests'";

#[test]
fn a_cancelled_rescue_leaves_nothing_and_blocks_nobody_while_it_copies() {
    let (site, target) = after_a_deletion(20_000);
    let proxy = FaultProxy::start(site.server.address()).unwrap();
    let dsn = site.server.dsn_at("127.0.0.1", proxy.port());
    proxy.set_bandwidth(Some(200_000));
    let line =
        ["tables", CLUSTER, "--target", &target, "--exclusive", "--table", "t", "--into", &dsn];
    let mut rescue = site.cli.start_job(&line).unwrap();
    assert!(rescue.reaches("copying rows"));
    wait_for("a session that copies", PATIENCE, || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY pg_temp.%'";
        site.server.psql(sql).is_ok_and(|n| n == "1")
    });
    // Who writes to the table does not wait.
    site.server.psql("SET lock_timeout = '5s'; INSERT INTO t VALUES (-1, 'meanwhile')").unwrap();
    site.cli.json(&["jobs", "cancel", &rescue.job()]).unwrap();
    let ended = rescue.finish(PATIENCE).unwrap();
    assert_eq!(ended.code, 8, "{ended}");
    proxy.set_bandwidth(None);
    wait_for("the live session to end", PATIENCE, || {
        site.server.psql(MERGES).is_ok_and(|n| n == "0")
    });
    assert_eq!(site.server.psql("SELECT id FROM t").unwrap(), "-1");
    nothing_is_left(&site);
}

#[test]
fn a_killed_rescue_lets_the_live_database_go_and_is_not_resumed() {
    let (site, target) = after_a_deletion(100);
    let dsn = site.server.dsn();
    let line =
        ["tables", CLUSTER, "--target", &target, "--exclusive", "--table", "t", "--into", &dsn];
    let mut killed = Vec::new();
    // While it restores, and while it waits for the live table.
    for phase in ["fetching", "locking"] {
        let writer = Writer::of(&site.server);
        let mut rescue = site.cli.start_job(&line).unwrap();
        assert!(rescue.reaches(phase), "{}", rescue.stderr());
        let copy = wait_for_value("the private copy", PATIENCE, || data_directories(&site).pop());
        if phase == "locking" {
            wait_for("the merge to wait", PATIENCE, || {
                let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted";
                site.server.psql(sql).is_ok_and(|n| n == "1")
            });
        }
        let job = rescue.job();
        rescue.kill().unwrap();
        assert_eq!(rescue.finish(PATIENCE).unwrap().code, 137);
        // Sooner than the wait for the lock would end by itself.
        wait_for("the live session to end", Duration::from_secs(20), || {
            site.server.psql(MERGES).is_ok_and(|n| n == "0")
        });
        no_server_of(&copy);
        assert_eq!(site.server.psql("SELECT count(*) FROM t").unwrap(), "0");
        drop(writer);

        let (code, error) = failure(&site.cli, &["restore", "resume", &job]).unwrap();
        assert_eq!((code, error["code"].as_str()), (3, Some("rescue_not_resumable")), "{error}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("holdfast tables") && hint.contains(&job), "{error}");
        let shown = site.cli.json(&["jobs", "show", &job]).unwrap()["job"].clone();
        assert_eq!((&shown["state"], &shown["resumable"]), (&"interrupted".into(), &false.into()));
        killed.push(copy);
        // What the one before has left went when the next began.
        assert_eq!(data_directories(&site), killed[killed.len() - 1..]);
    }
    let back = site.cli.json(&line).unwrap();
    assert_eq!(merged(&back, "public.t")["inserted"], 100, "{back:#}");
    nothing_is_left(&site);
}

#[test]
fn a_file_that_is_not_whole_goes_with_its_rescue() {
    let (site, target) = after_a_deletion(3);
    let rows = site.root().join("rows.sql");
    let into = rows.display().to_string();
    // Every look at a row takes a second: there is time to end it while the file is written.
    let slow = "pg_sleep(1) IS NOT NULL";
    let line = [
        &["tables", CLUSTER, "--target", &target, "--exclusive", "--table", "t"][..],
        &["--where", slow, "--into", &into],
    ]
    .concat();
    let parts = || -> Vec<PathBuf> {
        let entries = fs::read_dir(site.root()).unwrap().flatten().map(|e| e.path());
        entries.filter(|path| path.to_string_lossy().contains(".rows.sql")).collect()
    };
    let begin = || {
        let mut rescue = site.cli.start_job(&line).unwrap();
        assert!(rescue.reaches("writing the file"), "{}", rescue.stderr());
        wait_for("the part", PATIENCE, || parts().len() == 1);
        rescue
    };
    let ended = begin().terminate(PATIENCE).unwrap();
    assert_eq!(ended.code, 8, "{ended}");
    assert!(parts().is_empty() && !rows.exists(), "{:?}", parts());
    nothing_is_left(&site);

    let mut rescue = begin();
    let job = rescue.job();
    rescue.kill().unwrap();
    rescue.finish(PATIENCE).unwrap();
    assert_eq!(parts().len(), 1);
    site.cli.json(&["restore", "discard", &job]).unwrap();
    assert!(parts().is_empty() && !rows.exists(), "{:?}", parts());
    nothing_is_left(&site);
}

/// Whoever may create in a schema of the search path can offer an operator that fits better than
/// PostgreSQL's own (CVE-2018-1058). None of them is called by a rescue.
#[test]
fn operators_of_users_are_not_called() {
    let server = TestServer::start(15).unwrap();
    for statement in [
        "CREATE TABLE t (id varchar(10) PRIMARY KEY, parent varchar(10) REFERENCES t, note text)",
        "INSERT INTO t VALUES ('a', NULL, 'first'), ('b', 'a', 'second')",
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "CREATE TRIGGER \"50%s\" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION watch()",
    ] {
        server.psql(statement).unwrap();
    }
    let mut number = 0;
    for (name, left, right, gives) in [
        ("=", "varchar", "varchar", "bool"),
        ("=", "oid", "regclass", "bool"),
        ("=", "oid", "int4", "bool"),
        ("||", "text", "regclass", "text"),
        ("||", "text", "name", "text"),
        ("&", "int2", "int4", "int4"),
    ] {
        number += 1;
        server
            .psql(&format!(
                "CREATE FUNCTION trap{number}({left}, {right}) RETURNS {gives} LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'trap {number} was called'; END $$"
            ))
            .unwrap();
        server
            .psql(&format!(
                "CREATE OPERATOR {name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = trap{number})"
            ))
            .unwrap();
    }
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    let server = &site.server;
    assert!(server.psql("SELECT id = id FROM t").is_err(), "the trap is no trap");
    let xid = last_line(&server.psql("DELETE FROM t; SELECT pg_current_xact_id()").unwrap());
    site.archive().unwrap();
    let target = format!("xid:{xid}");
    let run = |more: &[&str]| {
        let line = ["tables", CLUSTER, "--target", &target, "--exclusive", "--table", "t"];
        site.cli.json(&[&line[..], more].concat()).unwrap()
    };
    let dsn = server.dsn();
    let back = run(&["--follow", "--into", &dsn, "--without-triggers"]);
    assert_eq!(merged(&back, "public.t")["inserted"], 2, "{back:#}");
    assert_eq!(
        server.psql("SELECT tgenabled FROM pg_trigger WHERE NOT tgisinternal").unwrap(),
        "O"
    );
    server.psql("UPDATE t SET note = 'other'").unwrap();
    let over = run(&["--into", &dsn, "--overwrite"]);
    assert_eq!(merged(&over, "public.t")["overwritten"], 2, "{over:#}");
    assert_eq!(server.psql("SELECT note FROM t ORDER BY note").unwrap(), "first\nsecond");
}
