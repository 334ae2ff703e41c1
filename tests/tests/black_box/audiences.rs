//! Audiences: a destination that keeps who is in, and refuses, loses its answers, and miscounts; and what the people and their consent say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::providers::{Asked, Server};
use crate::support::{Folder, SETTINGS};

/// What the destination does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// What it is asked.
    Fine,
    /// Nothing, if somebody is among them whose id begins so.
    RefusesAllWith(&'static str),
    /// What it is asked, but for those whose id begins so, whom it counts.
    Counts(&'static str),
    /// What it is asked, without a word.
    Silent,
    /// Nothing: it is used too fast.
    TooFast,
}

/// Meta's audiences, as far as they go here.
#[derive(Debug)]
struct Meta {
    mood: Mood,
    name: Option<String>,
    members: BTreeSet<Vec<String>>,
    /// Verb and ids of each change it was asked for.
    changes: Vec<(String, Vec<String>)>,
}

impl Meta {
    fn start() -> (Server, Arc<Mutex<Self>>) {
        let meta = Self { mood: Mood::Fine, name: None, members: BTreeSet::new(), changes: Vec::new() };
        let meta = Arc::new(Mutex::new(meta));
        let answering = Arc::clone(&meta);
        let server = Server::start(move |asked, _| answering.lock().unwrap().answer(asked));
        (server, meta)
    }

    fn answer(&mut self, asked: &Asked) -> Option<(u16, Value)> {
        assert_eq!(asked.headers["authorization"], "Bearer EAAB1");
        let (method, path) = asked.line.split_once(' ').unwrap();
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        match (method, path.split(['?', ' ']).next().unwrap()) {
            ("GET", "/v26.0/act_77/customaudiences") => {
                let found: Vec<Value> =
                    self.name.iter().map(|name| json!({ "id": "900", "name": name })).collect();
                Some((200, json!({ "data": found })))
            }
            ("POST", "/v26.0/act_77/customaudiences") => {
                assert!(self.name.is_none(), "it is there already");
                self.name = Some(body["name"].as_str().unwrap().to_owned());
                Some((200, json!({ "id": "900" })))
            }
            (_, "/v26.0/900/users") => self.change(method, &body),
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, method: &str, body: &Value) -> Option<(u16, Value)> {
        let rows: Vec<Vec<String>> = serde_json::from_value(body["payload"]["data"].clone()).unwrap();
        let mail =
            body["payload"]["schema"].as_array().unwrap().iter().position(|key| key == "EMAIL").unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|row| row[mail].is_empty() || row[mail].len() == 64));
        let error = |code: u32| json!({ "error": { "message": "No.", "code": code } });
        self.changes.push((method.to_owned(), rows.iter().map(|row| row[0].clone()).collect()));
        let is_bad = |start: &str, row: &Vec<String>| row[0].starts_with(start);
        match self.mood {
            Mood::TooFast => return Some((400, error(80_003))),
            Mood::RefusesAllWith(start) if rows.iter().any(|row| is_bad(start, row)) => {
                return Some((400, error(100)));
            }
            _ => {}
        }
        let mut invalid = 0;
        for row in &rows {
            match (self.mood, method) {
                (Mood::Counts(start), _) if is_bad(start, row) => invalid += 1,
                (_, "DELETE") => drop(self.members.remove(row)),
                _ => drop(self.members.insert(row.clone())),
            }
        }
        let counted =
            json!({ "session_id": "1", "num_received": rows.len(), "num_invalid_entries": invalid });
        (self.mood != Mood::Silent).then_some((200, counted))
    }

    fn ids(&self) -> BTreeSet<String> {
        self.members.iter().map(|row| row[0].clone()).collect()
    }
}

const SYNC: &str = "title: Power users\nowner: o@shop.test\nwhy: \"Test.\"\nschedule: 15m\nfrom: segment.power_users\n\
audience: {destination: meta, name: power_users}\npurpose: offers\n";

/// So many power users, `p1` and on, who all consent to ads.
fn shop(people: usize, port: u16) -> Folder {
    let folder = Folder::empty();
    let meta = format!(
        "{{connector: meta_ads, token: EAAB1, ad_account: \"77\", identifiers: [id, email], base_url: \"http://127.0.0.1:{port}\"}}"
    );
    folder
        .write("drumbeat.yml", &format!("{SETTINGS}destinations:\n  meta: {meta}\n"))
        .write("data.yml", "profiles: {sql: \"select id, email from customers\"}\n")
        .write(
            "policy.yml",
            "purposes: {offers: {title: Offers, class: marketing}}\n\
             consent: {sql: \"select profile, channel, purpose, status, changed_at, source from consents\"}\n",
        )
        .write(
            "segments/power_users.yml",
            "title: Power users\nowner: o@shop.test\nwhy: \"Test.\"\nschedule: 15m\nsql: \"select id from customers where power = 1\"\n",
        )
        .write("syncs/power_users.yml", SYNC);
    folder.sql(
        "warehouse.db",
        "create table customers(id text primary key, email text, power integer);\n\
         create table consents(profile text, channel text, purpose text, status text, changed_at text, source text);",
    );
    add(&folder, 1, people);
    folder
}

fn add(folder: &Folder, from: usize, to: usize) {
    let mut sql = "begin;\n".to_owned();
    for n in from..=to {
        sql.push_str(&format!("insert into customers values('p{n}','p{n}@example.test',1);\n"));
        sql.push_str(&format!(
            "insert into consents values('p{n}','ads','offers','granted','2026-01-01T00:00:00Z','form');\n"
        ));
    }
    folder.sql("warehouse.db", &(sql + "commit;"));
}

fn ids(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    numbers.into_iter().map(|n| format!("p{n}")).collect()
}

/// A pass at this time on a day in March; what it says of the one audience there is.
fn run(folder: &Folder, time: &str, code: i32) -> Value {
    let now = format!("2026-03-02T{time}:00Z");
    let ran = folder.run(&["--now", &now, "--output", "json", "run", "--once"]).code(code).json();
    ran["audiences"][0].clone()
}

fn shown(folder: &Folder) -> Value {
    folder.run(&["--output", "json", "sync", "show", "power_users"]).code(0).json()
}

#[test]
fn an_audience_is_kept_equal_to_the_people_who_consent() {
    let (server, meta) = Meta::start();
    let folder = shop(200, server.port);
    folder.run(&["check"]).code(0);
    let planned = folder.run(&["--now", "2026-03-02T09:00:00Z", "--output", "json", "plan"]).code(0).json();
    assert_eq!(planned["audiences"][0]["add"].as_array().unwrap().len(), 200);
    assert!(meta.lock().unwrap().name.is_none(), "a plan asks nobody");
    let first = run(&folder, "09:00", 0);
    assert_eq!((&first["wanted"], &first["added"], &first["removed"]), (&200.into(), &200.into(), &0.into()));
    assert_eq!(meta.lock().unwrap().ids(), ids(1..=200));
    let name = meta.lock().unwrap().name.clone().unwrap();
    assert!(name.starts_with("drumbeat-") && !name.contains("power"), "{name}");
    // Again: nothing to do. Then one has another address, two leave, three come, one says no in the warehouse.
    assert_eq!(run(&folder, "09:15", 0)["added"], 0);
    folder.sql("warehouse.db", "update customers set email = 'new@example.test' where id = 'p1'; update customers set power = 0 where id in ('p2', 'p3');");
    folder.sql(
        "warehouse.db",
        "insert into consents values('p4','ads','offers','withdrawn','2026-02-01T00:00:00Z','form');",
    );
    add(&folder, 201, 203);
    let before = meta.lock().unwrap().changes.len();
    let planned = folder.run(&["--now", "2026-03-02T09:30:00Z", "--output", "json", "plan"]).code(0).json();
    assert_eq!(planned["audiences"][0]["add"], json!(["p1", "p201", "p202", "p203"]));
    assert_eq!(planned["audiences"][0]["remove"], json!(["p1", "p2", "p3", "p4"]));
    let then = run(&folder, "09:30", 0);
    assert_eq!((&then["added"], &then["removed"]), (&4.into(), &4.into()), "{then}");
    let changes = meta.lock().unwrap().changes[before..].to_vec();
    let order: Vec<(&str, Vec<&str>)> =
        changes.iter().map(|(verb, ids)| (verb.as_str(), ids.iter().map(String::as_str).collect())).collect();
    assert_eq!(
        order,
        [
            ("DELETE", vec!["p4"]),
            ("POST", vec!["p1", "p201", "p202", "p203"]),
            ("DELETE", vec!["p1", "p2", "p3"])
        ],
        "who said no goes first, and who comes before who leaves"
    );
    assert_eq!(meta.lock().unwrap().ids(), ids((1..=203).filter(|n| ![2, 3, 4].contains(n))));
    assert_eq!(meta.lock().unwrap().members.len(), 200, "nobody is known by two addresses");
    folder.run(&["audit", "verify"]).code(0);
    // What was handed over is in no file in the clear.
    let state = std::fs::read(folder.path().join("state.db")).unwrap();
    for row in &meta.lock().unwrap().members {
        assert!(row[1].is_empty() || !contains(&state, row[1].as_bytes()), "a hashed address lies open");
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[test]
fn one_bad_row_keeps_nobody_out_and_comes_back_by_itself() {
    for (mood, rejected) in [(Mood::RefusesAllWith("p77"), 1), (Mood::Counts("p77"), 1)] {
        let (server, meta) = Meta::start();
        meta.lock().unwrap().mood = mood;
        let folder = shop(200, server.port);
        let first = run(&folder, "09:00", 0);
        assert_eq!(
            (&first["added"], &first["rejected"]),
            (&199.into(), &rejected.into()),
            "{mood:?}: {first}"
        );
        assert_eq!(meta.lock().unwrap().ids(), ids((1..=200).filter(|n| *n != 77)));
        assert!(meta.lock().unwrap().changes.len() <= 20, "{mood:?} takes too many requests");
        assert_eq!(shown(&folder)["rejected"], 1);
        meta.lock().unwrap().mood = Mood::Fine;
        assert_eq!(run(&folder, "09:15", 0)["added"], 1);
        assert_eq!(
            (shown(&folder)["in"].clone(), shown(&folder)["rejected"].clone()),
            (200.into(), 0.into())
        );
        assert_eq!(meta.lock().unwrap().ids(), ids(1..=200));
    }
}

#[test]
fn what_got_no_answer_is_seen_and_asked_again() {
    let (server, meta) = Meta::start();
    meta.lock().unwrap().mood = Mood::Silent;
    let folder = shop(120, server.port);
    let lost = run(&folder, "09:00", 1);
    assert_eq!((&lost["added"], &lost["unknown"]), (&0.into(), &120.into()), "{lost}");
    assert_eq!((shown(&folder)["unknown"].clone(), shown(&folder)["in"].clone()), (120.into(), 0.into()));
    // Somebody says no meanwhile, who may be in: they are to be out all the same.
    folder
        .run(&["consent", "withdraw", "p5", "--channel", "ads", "--purpose", "offers", "--source", "form"])
        .code(0);
    meta.lock().unwrap().mood = Mood::TooFast;
    let held_off = run(&folder, "09:05", 1);
    assert!(held_off["put_off"].as_str().is_some(), "{held_off}");
    meta.lock().unwrap().mood = Mood::Fine;
    let found = run(&folder, "10:30", 0);
    assert_eq!((&found["added"], &found["unknown"]), (&119.into(), &0.into()), "{found}");
    assert_eq!(meta.lock().unwrap().ids(), ids((1..=120).filter(|n| *n != 5)));
    assert_eq!((shown(&folder)["unknown"].clone(), shown(&folder)["in"].clone()), (0.into(), 119.into()));
}

#[test]
fn who_says_no_before_it_is_handed_over_is_not_added() {
    let (server, meta) = Meta::start();
    meta.lock().unwrap().mood = Mood::TooFast;
    let folder = shop(120, server.port);
    run(&folder, "09:00", 1);
    // As if it were said after everybody was looked at, and before the transaction that hands over.
    folder.sql(
        "state.db",
        "insert into consent select number, 'ads', 'offers', 'withdrawn', 1772442000000, 'local' from profile where id = 'p9'
            on conflict do update set status = excluded.status, origin = excluded.origin, changed_at_ms = excluded.changed_at_ms;
        insert into suppression select 'profile', number, '*', 'supp.manual', 1772442000000, 'x', 0 from profile where id = 'p10';",
    );
    meta.lock().unwrap().mood = Mood::Fine;
    let then = run(&folder, "09:10", 0);
    assert_eq!((&then["added"], &then["removed"]), (&118.into(), &0.into()), "{then}");
    assert_eq!(meta.lock().unwrap().ids(), ids((1..=120).filter(|n| ![9, 10].contains(n))));
}

#[test]
fn too_many_who_leave_wait_for_a_person_and_who_says_no_does_not() {
    let (server, meta) = Meta::start();
    let folder = shop(150, server.port);
    run(&folder, "09:00", 0);
    folder.sql("warehouse.db", "update customers set power = 0 where cast(substr(id, 2) as integer) <= 40;");
    add(&folder, 151, 152);
    let held = run(&folder, "09:15", 3);
    assert_eq!(held["held"]["reason"], "seg.mass_removal");
    assert_eq!(held["held"]["saw"], "40 of 150 people would be removed, `guards.removal` lets 20% of them");
    assert_eq!((&held["added"], &held["removed"]), (&2.into(), &0.into()), "additions go on");
    folder
        .run(&["consent", "withdraw", "p7", "--channel", "ads", "--purpose", "*", "--source", "form"])
        .code(0);
    assert_eq!(run(&folder, "09:16", 0)["removed"], 1);
    assert!(!meta.lock().unwrap().ids().contains("p7"));
    // A person's word is good for as many as there were, once.
    folder.run(&["sync", "accept", "power_users", "--reason", "the season is over"]).code(0);
    folder.sql("warehouse.db", "update customers set power = 0 where id in ('p41', 'p42');");
    assert_eq!(run(&folder, "09:30", 3)["removed"], 0, "41 are more than 39");
    folder.run(&["sync", "accept", "power_users", "--reason", "those, too"]).code(0);
    assert_eq!(run(&folder, "09:31", 0)["removed"], 41);
    assert_eq!(meta.lock().unwrap().ids(), ids(43..=152));
    assert_eq!(folder.run(&["sync", "accept", "power_users", "--reason", "again"]).code, 1);
}

#[test]
fn few_people_are_no_audience_and_one_that_shrinks_lets_people_go() {
    let (server, meta) = Meta::start();
    let folder = shop(99, server.port);
    let few = run(&folder, "09:00", 0);
    assert_eq!((&few["held"]["reason"], &few["added"]), (&json!("ads.audience_too_small"), &0.into()));
    assert!(meta.lock().unwrap().name.is_none());
    add(&folder, 100, 100);
    assert_eq!(run(&folder, "09:15", 0)["added"], 100);
    folder.sql("warehouse.db", "update customers set power = 0 where id = 'p1';");
    assert_eq!(run(&folder, "09:30", 0)["removed"], 1);
    folder.run(&["profile", "erase", "p2", "--reason", "asked"]).code(0);
    assert_eq!(run(&folder, "09:31", 0)["removed"], 1);
    assert_eq!(meta.lock().unwrap().ids(), ids(3..=100));
}

#[test]
fn killed_at_any_point_the_audience_is_what_it_is_to_be() {
    for point in ["compare.before_commit", "push.before_commit", "push.after_commit", "push.before_settle"] {
        let (server, meta) = Meta::start();
        let folder = shop(110, server.port);
        for time in ["09:00", "09:15"] {
            let now = format!("2026-03-02T{time}:00Z");
            let mut dying = folder.command(&["--now", &now, "run", "--once"]);
            assert!(
                !dying.env("DRUMBEAT_FAILPOINT", point).output().unwrap().status.success(),
                "{point} was never passed at {time}"
            );
            run(&folder, time, 0);
            let expected = if time == "09:00" { ids(1..=110) } else { ids(3..=110) };
            assert_eq!(meta.lock().unwrap().ids(), expected, "{point} at {time}");
            assert_eq!(shown(&folder)["unknown"], 0, "{point} at {time}");
            folder.sql("warehouse.db", "update customers set power = 0 where id in ('p1', 'p2');");
        }
        folder.run(&["audit", "verify"]).code(0);
    }
}

#[test]
fn who_shares_an_address_stays_known_by_it() {
    let (server, meta) = Meta::start();
    let folder = shop(120, server.port);
    let meta_by_mail = folder.read("drumbeat.yml").replace("[id, email]", "[email]");
    folder.write("drumbeat.yml", &meta_by_mail);
    folder.sql("warehouse.db", "update customers set email = 'both@example.test' where id in ('p1', 'p2');");
    run(&folder, "09:00", 0);
    assert_eq!(meta.lock().unwrap().members.len(), 119);
    // One of the two says no; the other's word stands, and it is the same address.
    folder
        .run(&["consent", "withdraw", "p1", "--channel", "ads", "--purpose", "offers", "--source", "form"])
        .code(0);
    run(&folder, "09:05", 0);
    assert_eq!(meta.lock().unwrap().members.len(), 119);
    folder
        .run(&["consent", "withdraw", "p2", "--channel", "ads", "--purpose", "offers", "--source", "form"])
        .code(0);
    assert_eq!(run(&folder, "09:10", 0)["removed"], 1);
    assert_eq!(meta.lock().unwrap().members.len(), 118);
    // A sync that is gone leaves people where they are, says so, and still lets out who says no.
    std::fs::remove_file(folder.path().join("syncs/power_users.yml")).unwrap();
    let listed = folder.run(&["--output", "json", "sync", "list"]).code(0);
    assert!(listed.err.contains("no sync keeps audience power_users at meta"), "{}", listed.err);
    folder
        .run(&["consent", "withdraw", "p3", "--channel", "ads", "--purpose", "offers", "--source", "form"])
        .code(0);
    run(&folder, "09:20", 0);
    assert_eq!(meta.lock().unwrap().members.len(), 117);
}

/// The example of the README is one that `check` takes.
#[test]
fn the_sync_of_the_readme_is_one() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let chapter = readme.split("## Audiences").nth(1).unwrap();
    let example = chapter.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = shop(1, 1);
    folder.write("syncs/power_users.yml", example);
    folder.run(&["check"]).code(0);
}

/// The process died after it handed people over, and before it wrote that down: they may be in, and so they are to be out.
#[test]
fn who_may_have_been_handed_over_is_removed_after_a_crash() {
    let (server, meta) = Meta::start();
    let folder = shop(120, server.port);
    let mut dying = folder.command(&["--now", "2026-03-02T09:00:00Z", "run", "--once"]);
    assert!(!dying.env("DRUMBEAT_FAILPOINT", "push.before_settle").output().unwrap().status.success());
    assert_eq!(meta.lock().unwrap().members.len(), 120);
    folder
        .run(&["consent", "withdraw", "p5", "--channel", "ads", "--purpose", "offers", "--source", "form"])
        .code(0);
    assert_eq!(run(&folder, "09:05", 0)["removed"], 1);
    assert_eq!(meta.lock().unwrap().ids(), ids((1..=120).filter(|n| *n != 5)));
}

#[test]
fn mistakes_of_a_sync_are_said_where_they_are() {
    let folder = shop(1, 1);
    for (from, to, expected) in [
        ("segment.power_users", "segment.power_user", "there is no segment `power_user`"),
        ("segment.power_users", "events", "is nothing to keep anything equal to"),
        ("destination: meta", "destination: metta", "there is no destination `metta`"),
        ("purpose: offers", "purpose: offer", "there is no purpose `offer`"),
        ("name: power_users", "name: Power", "an audience's name"),
        ("purpose: offers\n", "", "the key `purpose` is missing"),
        ("from: segment.power_users\n", "from: accounts\n", "people are in an audience, and no accounts"),
    ] {
        folder.write("syncs/power_users.yml", &SYNC.replace(from, to));
        let ran = folder.run(&["check", "--offline"]).code(1);
        assert!(ran.err.contains(expected), "{to}: {}", ran.err);
    }
    folder.write("syncs/power_users.yml", SYNC).write("syncs/other.yml", SYNC);
    let ran = folder.run(&["check", "--offline"]).code(1);
    assert!(ran.err.contains("is kept by syncs/other.yml already"), "{}", ran.err);
}
