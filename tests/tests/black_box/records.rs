//! Records: a CRM that people edit, that refuses, and loses its answers; and what the warehouse says of its companies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::providers::{Asked, Server};
use crate::support::{Folder, SETTINGS};

/// What the CRM does when it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// What it is asked.
    Fine,
    /// What it is asked, but for those whose health is this: it says which.
    RefusesEach(&'static str),
    /// Nothing, if one of them has this health.
    RefusesAllWith(&'static str),
    /// What it is asked, without a word.
    Silent,
    /// Nothing, and hangs up.
    Deaf,
}

/// Companies at HubSpot, as far as they go here: a domain is not unique there.
#[derive(Debug)]
struct Crm {
    mood: Mood,
    properties: Vec<&'static str>,
    companies: BTreeMap<u32, BTreeMap<String, String>>,
    next: u32,
    /// Verb and rows of each write.
    writes: Vec<(String, usize)>,
}

impl Crm {
    fn start() -> (Server, Arc<Mutex<Self>>) {
        let properties = vec!["domain", "health", "tier"];
        let crm =
            Self { mood: Mood::Fine, properties, companies: BTreeMap::new(), next: 500, writes: Vec::new() };
        let crm = Arc::new(Mutex::new(crm));
        let answering = Arc::clone(&crm);
        (Server::start(move |asked, _| answering.lock().unwrap().answer(asked)), crm)
    }

    /// A company that is there already.
    fn has(&mut self, fields: &[(&str, &str)]) -> u32 {
        self.next += 1;
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.companies.insert(self.next, fields.collect());
        self.next
    }

    /// A field of the one company with this domain.
    fn field(&self, domain: &str, name: &str) -> String {
        let all: Vec<_> = self.companies.values().filter(|company| company["domain"] == domain).collect();
        assert_eq!(all.len(), 1, "{domain}");
        all[0].get(name).cloned().unwrap_or_default()
    }

    fn edit(&mut self, domain: &str, name: &str, value: &str) {
        let company = self.companies.values_mut().find(|company| company["domain"] == domain).unwrap();
        company.insert(name.to_owned(), value.to_owned());
    }

    fn answer(&mut self, asked: &Asked) -> Option<(u16, Value)> {
        assert_eq!(asked.headers["authorization"], "Bearer pat-1");
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let path = asked.line.split(' ').nth(1).unwrap();
        match path {
            "/crm/v3/properties/companies/batch/read" => Some((200, self.described(&body))),
            "/crm/v3/objects/companies/search" => Some((200, self.found(&body))),
            "/crm/v3/objects/companies/batch/create" | "/crm/v3/objects/companies/batch/update" => {
                self.write(path.rsplit('/').next().unwrap(), &body)
            }
            other => panic!("{other}"),
        }
    }

    fn described(&self, body: &Value) -> Value {
        let names: Vec<&str> =
            body["inputs"].as_array().unwrap().iter().map(|input| input["name"].as_str().unwrap()).collect();
        let (there, missing): (Vec<&str>, Vec<&str>) =
            names.into_iter().partition(|name| self.properties.contains(name));
        let results: Vec<Value> = there
            .iter()
            .map(|name| json!({ "name": name, "label": name, "type": "string", "fieldType": "text", "groupName": "g", "hasUniqueValue": false, "modificationMetadata": { "readOnlyValue": false } }))
            .collect();
        let errors: Vec<Value> = missing
            .iter()
            .map(|name| json!({ "status": "error", "category": "OBJECT_NOT_FOUND", "message": "no", "context": { "name": [name] } }))
            .collect();
        json!({ "status": "COMPLETE", "results": results, "numErrors": errors.len(), "errors": errors })
    }

    fn found(&self, body: &Value) -> Value {
        let domains = body["filterGroups"][0]["filters"][0]["values"].as_array().unwrap();
        assert!(domains.len() <= 100);
        let found = self.companies.iter().filter(|(_, company)| domains.contains(&json!(company["domain"])));
        let results: Vec<Value> = found
            .map(|(id, company)| json!({ "id": id.to_string(), "properties": company, "archived": false }))
            .collect();
        json!({ "total": results.len(), "results": results })
    }

    fn write(&mut self, verb: &str, body: &Value) -> Option<(u16, Value)> {
        let inputs = body["inputs"].as_array().unwrap();
        self.writes.push((verb.to_owned(), inputs.len()));
        let is_bad = |input: &Value, health: &str| input["properties"]["health"] == health;
        match self.mood {
            Mood::Deaf => return None,
            Mood::RefusesAllWith(health) if inputs.iter().any(|input| is_bad(input, health)) => {
                let message = format!("Property values were not valid: {health}");
                return Some((
                    400,
                    json!({ "status": "error", "category": "VALIDATION_ERROR", "message": message }),
                ));
            }
            _ => {}
        }
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for input in inputs {
            let trace = &input["objectWriteTraceId"];
            if matches!(self.mood, Mood::RefusesEach(health) if is_bad(input, health)) {
                errors.push(json!({ "status": "error", "category": "VALIDATION_ERROR", "message": "no such health", "context": { "objectWriteTraceId": [trace] } }));
                continue;
            }
            let id = match input["id"].as_str() {
                Some(id) => id.parse().unwrap(),
                None => self.has(&[]),
            };
            let company = self.companies.get_mut(&id).unwrap();
            for (name, value) in input["properties"].as_object().unwrap() {
                company.insert(name.clone(), value.as_str().unwrap().to_owned());
            }
            results.push(json!({ "id": id.to_string(), "properties": company, "objectWriteTraceId": trace, "archived": false }));
        }
        let status = if errors.is_empty() { 200 } else { 207 };
        let told =
            json!({ "status": "COMPLETE", "results": results, "numErrors": errors.len(), "errors": errors });
        (self.mood != Mood::Silent).then_some((status, told))
    }
}

const SYNC: &str = "title: Health\nowner: o@shop.test\nwhy: \"Test.\"\nschedule: 15m\nfrom: accounts\n\
record: {destination: crm, object: company, match: {domain: \"{{ account.domain }}\"}, fields: {health: \"{{ account.health }}\", tier: \"{{ account.tier }}\"}}\n";

/// So many accounts, `a1` and on, and a person in each.
fn shop(accounts: usize, port: u16) -> Folder {
    let folder = Folder::empty();
    let crm = format!("{{connector: hubspot, token: pat-1, base_url: \"http://127.0.0.1:{port}\"}}");
    folder
        .write("drumbeat.yml", &format!("{SETTINGS}destinations:\n  crm: {crm}\n"))
        .write(
            "data.yml",
            "profiles: {sql: \"select id, email, account_id from customers\"}\n\
             accounts: {sql: \"select account_id as id, domain, health, tier from accounts\"}\n",
        )
        .write("policy.yml", "purposes: {tips: {title: Tips, class: lifecycle}}\n")
        .write("syncs/health.yml", SYNC);
    let mut sql = "create table customers(id text primary key, email text, account_id text);\n\
        create table accounts(account_id text primary key, domain text, health integer, tier text);\nbegin;\n"
        .to_owned();
    for n in 1..=accounts {
        sql.push_str(&format!(
            "insert into accounts values('a{n}','c{n}.test',{n},'gold');\ninsert into customers values('p{n}','p{n}@c{n}.test','a{n}');\n"
        ));
    }
    folder.sql("warehouse.db", &(sql + "commit;"));
    folder
}

/// A pass at this time on a day in March; what it says of the one sync there is.
fn run(folder: &Folder, time: &str, code: i32) -> Value {
    let now = format!("2026-03-02T{time}:00Z");
    let ran = folder.run(&["--now", &now, "--output", "json", "run", "--once"]).code(code).json();
    ran["records"][0].clone()
}

fn shown(folder: &Folder) -> Value {
    folder.run(&["--output", "json", "sync", "show", "health"]).code(0).json()
}

/// How often it was written, and how many rows.
fn writes(crm: &Mutex<Crm>) -> Vec<(String, usize)> {
    std::mem::take(&mut crm.lock().unwrap().writes)
}

fn write(verb: &str, rows: usize) -> (String, usize) {
    (verb.to_owned(), rows)
}

#[test]
fn records_are_made_once_and_only_what_changes_is_written() {
    let (server, crm) = Crm::start();
    crm.lock().unwrap().has(&[("domain", "c1.test"), ("health", "1")]);
    crm.lock().unwrap().has(&[("domain", "c2.test"), ("health", ""), ("tier", "silver")]);
    let folder = shop(130, server.port);
    folder.run(&["check"]).code(0);
    let planned = folder.run(&["--now", "2026-03-02T09:00:00Z", "--output", "json", "plan"]).code(0).json();
    assert_eq!((&planned["records"][0]["to_write"], writes(&crm)), (&130.into(), vec![]));
    let first = run(&folder, "09:00", 0);
    assert_eq!(
        (&first["made"], &first["written"], &first["edited"]),
        (&128.into(), &2.into(), &1.into()),
        "{first}"
    );
    assert_eq!(crm.lock().unwrap().companies.len(), 130);
    assert_eq!(crm.lock().unwrap().field("c2.test", "tier"), "silver", "somebody else wrote that");
    assert_eq!(crm.lock().unwrap().field("c130.test", "health"), "130");
    assert_eq!(writes(&crm).iter().map(|(_, rows)| rows).sum::<usize>(), 130);
    run(&folder, "09:15", 0);
    assert_eq!(writes(&crm), [], "nothing changed");
    folder.sql("warehouse.db", "update accounts set health = 77 where account_id in ('a3', 'a4'); update accounts set tier = null where account_id = 'a5';");
    crm.lock().unwrap().edit("c4.test", "health", "green");
    let diff = folder
        .run(&["--now", "2026-03-02T09:30:00Z", "--output", "json", "sync", "diff", "health"])
        .code(0)
        .json();
    assert_eq!(writes(&crm), [], "a diff writes nothing");
    let of =
        |id: &str| diff["records"].as_array().unwrap().iter().find(|one| one["of"] == id).unwrap().clone();
    assert_eq!(of("a3")["changes"], json!({ "health": { "before": "3", "after": 77 } }));
    assert_eq!((&of("a4")["changes"], &of("a4")["edited"]), (&json!({}), &json!(["health"])));
    assert_eq!(of("a5")["changes"], json!({ "tier": { "before": "gold", "after": null } }));
    let then = run(&folder, "09:30", 0);
    assert_eq!((&then["written"], &then["same"]), (&2.into(), &1.into()), "{then}");
    assert_eq!(writes(&crm), [write("update", 2)]);
    assert_eq!(crm.lock().unwrap().field("c3.test", "health"), "77");
    assert_eq!(crm.lock().unwrap().field("c4.test", "health"), "green", "a person's word stays");
    assert_eq!(crm.lock().unwrap().field("c5.test", "tier"), "");
    let shown = shown(&folder);
    assert_eq!(
        (&shown["in"], &shown["edited"], &shown["unknown"]),
        (&130.into(), &2.into(), &0.into()),
        "{shown}"
    );
    // Whoever owns the field says so.
    folder.write("syncs/health.yml", &SYNC.replace("}}\"}}\n", "}}\"}, on_edit: overwrite}\n"));
    assert_eq!(run(&folder, "09:31", 0)["written"], 2);
    assert_eq!(crm.lock().unwrap().field("c4.test", "health"), "77");
    folder.run(&["audit", "verify"]).code(0);
}

#[test]
fn what_was_written_is_undone_and_a_persons_word_stays() {
    let (server, crm) = Crm::start();
    crm.lock().unwrap().has(&[("domain", "c1.test"), ("tier", "lead")]);
    let folder = shop(3, server.port);
    folder.write("syncs/health.yml", &SYNC.replace("}}\"}}\n", "}}\"}, on_edit: overwrite}\n"));
    run(&folder, "09:00", 0);
    assert_eq!(crm.lock().unwrap().field("c1.test", "tier"), "gold");
    crm.lock().unwrap().edit("c2.test", "health", "call first");
    let now = "2026-03-02T09:00:30Z";
    folder.run(&["--now", now, "record", "revert", "health", "--reason", "the numbers were wrong"]).code(0);
    let undone = run(&folder, "09:01", 0);
    assert_eq!((&undone["undone"], &undone["edited"]), (&3.into(), &1.into()), "{undone}");
    {
        let crm = crm.lock().unwrap();
        assert_eq!(
            (crm.field("c1.test", "tier"), crm.field("c1.test", "health")),
            ("lead".into(), String::new())
        );
        assert_eq!(
            (crm.field("c2.test", "tier"), crm.field("c2.test", "health")),
            (String::new(), "call first".into())
        );
    }
    writes(&crm);
    run(&folder, "09:15", 0);
    assert_eq!(writes(&crm), [], "it stands still");
    assert!(shown(&folder)["reverted_at"].is_string());
    let now = "2026-03-02T09:15:30Z";
    folder.run(&["--now", now, "sync", "resync", "health", "--reason", "right again"]).code(0);
    assert_eq!(run(&folder, "09:16", 0)["written"], 3);
    assert_eq!(crm.lock().unwrap().field("c3.test", "health"), "3");
}

#[test]
fn one_bad_row_harms_no_other_and_comes_back_by_itself() {
    for mood in [Mood::RefusesEach("7"), Mood::RefusesAllWith("7")] {
        let (server, crm) = Crm::start();
        crm.lock().unwrap().mood = mood;
        let folder = shop(40, server.port);
        let first = run(&folder, "09:00", 0);
        assert_eq!((&first["made"], &first["rejected"]), (&39.into(), &1.into()), "{mood:?} {first}");
        assert!(writes(&crm).len() <= 13, "{mood:?}");
        let rejected =
            folder.run(&["--output", "ndjson", "sync", "show", "health", "--people"]).code(0).lines();
        let rejected: Vec<&Value> =
            rejected.iter().filter(|row| row["todo"] == "rejected").map(|row| &row["of"]).collect();
        assert_eq!(rejected, ["a7"], "{mood:?}");
        crm.lock().unwrap().mood = Mood::Fine;
        assert_eq!(run(&folder, "09:15", 0)["made"], 1, "{mood:?}");
        assert_eq!(crm.lock().unwrap().companies.len(), 40);
    }
}

#[test]
fn a_lost_answer_makes_nothing_twice_and_is_seen() {
    for (mood, later) in [(Mood::Silent, ["made", "same"]), (Mood::Deaf, ["same", "made"])] {
        let (server, crm) = Crm::start();
        crm.lock().unwrap().mood = mood;
        let folder = shop(5, server.port);
        let first = run(&folder, "09:00", 1);
        assert_eq!(first["unknown"], 5, "{mood:?} {first}");
        assert_eq!(shown(&folder)["unknown"], 5);
        crm.lock().unwrap().mood = Mood::Fine;
        writes(&crm);
        run(&folder, "09:01", 0);
        assert_eq!(writes(&crm), [], "what was made may not be found yet");
        let then = run(&folder, "09:03", 0);
        assert_eq!((&then[later[0]], &then[later[1]]), (&0.into(), &5.into()), "{mood:?} {then}");
        assert_eq!(crm.lock().unwrap().companies.len(), 5, "{mood:?}");
        assert_eq!(shown(&folder)["unknown"], 0);
        // What was written without a word is ours all the same, and changes with the warehouse.
        folder.sql("warehouse.db", "update accounts set health = 80 where account_id = 'a1';");
        crm.lock().unwrap().mood = mood;
        run(&folder, "09:15", 1);
        folder.sql("warehouse.db", "update accounts set health = 81 where account_id = 'a1';");
        crm.lock().unwrap().mood = Mood::Fine;
        assert_eq!(run(&folder, "09:30", 0)["written"], 1, "{mood:?}");
        assert_eq!(crm.lock().unwrap().field("c1.test", "health"), "81");
    }
}

#[test]
fn nobody_knows_which_of_several_is_meant() {
    let (server, crm) = Crm::start();
    crm.lock().unwrap().has(&[("domain", "c1.test")]);
    crm.lock().unwrap().has(&[("domain", "c1.test")]);
    let folder = shop(4, server.port);
    folder.sql("warehouse.db", "update accounts set domain = 'C3.test' where account_id = 'a2';");
    let ran = run(&folder, "09:00", 0);
    assert_eq!((&ran["made"], &ran["rejected"]), (&1.into(), &1.into()), "{ran}");
    let listed = folder.run(&["--output", "ndjson", "sync", "show", "health", "--people"]).code(0).lines();
    let reasons: BTreeMap<&str, &str> =
        listed.iter().map(|row| (row["of"].as_str().unwrap(), row["reason"].as_str().unwrap())).collect();
    let duplicate = "crm.duplicate_record";
    assert_eq!(
        reasons,
        [("a1", duplicate), ("a2", duplicate), ("a3", duplicate), ("a4", "ok.applied")].into()
    );
    assert_eq!(crm.lock().unwrap().companies.len(), 3);
    // Put right on either side, it is written.
    folder.sql("warehouse.db", "update accounts set domain = 'c2.test' where account_id = 'a2';");
    crm.lock().unwrap().companies.remove(&501);
    let then = run(&folder, "09:15", 0);
    assert_eq!((&then["made"], &then["written"]), (&2.into(), &1.into()), "{then}");
}

#[test]
fn records_that_would_be_emptied_wait_for_a_person() {
    let (server, crm) = Crm::start();
    let folder = shop(10, server.port);
    folder.write("syncs/health.yml", &SYNC.replace("}}\"}}\n", "}}\"}, gone: clear}\n"));
    run(&folder, "09:00", 0);
    folder.sql("warehouse.db", "delete from accounts where account_id in ('a1', 'a2', 'a3');");
    crm.lock().unwrap().edit("c2.test", "tier", "theirs");
    let held = run(&folder, "09:15", 3);
    assert_eq!(held["held"]["saw"], "3 of 10 records would be emptied, `guards.removal` lets 20% of them");
    assert_eq!(crm.lock().unwrap().field("c1.test", "health"), "1");
    folder.run(&["sync", "accept", "health", "--reason", "they left"]).code(0);
    assert_eq!(run(&folder, "09:16", 0)["undone"], 3);
    let crm = crm.lock().unwrap();
    assert_eq!(
        (crm.field("c1.test", "health"), crm.field("c1.test", "tier")),
        (String::new(), String::new())
    );
    assert_eq!(
        (crm.field("c2.test", "health"), crm.field("c2.test", "tier")),
        (String::new(), "theirs".to_owned())
    );
    assert_eq!(crm.field("c4.test", "health"), "4");
    drop(crm);
    assert_eq!(shown(&folder)["in"], 7);
}

#[test]
fn a_field_that_is_not_there_holds_its_sync_and_no_other() {
    let (server, crm) = Crm::start();
    let folder = shop(3, server.port);
    crm.lock().unwrap().properties.retain(|name| *name != "tier");
    let other = SYNC.replace(", tier: \"{{ account.tier }}\"", "");
    folder
        .write("syncs/health.yml", &other)
        .write("syncs/tier.yml", &SYNC.replace("health: \"{{ account.health }}\", ", ""));
    let now = "2026-03-02T09:00:00Z";
    let ran = folder.run(&["--now", now, "--output", "json", "run", "--once"]).code(1).json();
    let of = |name: &str| {
        ran["records"].as_array().unwrap().iter().find(|one| one["sync"] == name).unwrap().clone()
    };
    assert_eq!(of("health")["made"], 3, "{ran}");
    assert_eq!(of("tier")["put_off"]["reason"], "fail.schema_drift", "{ran}");
    assert!(of("tier")["put_off"]["saw"].as_str().unwrap().contains("`tier`"), "{ran}");
    crm.lock().unwrap().properties.push("tier");
    let ran =
        folder.run(&["--now", "2026-03-02T09:16:00Z", "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(ran["records"][1]["written"], 3, "{ran}");
}

#[test]
fn killed_at_any_point_records_are_what_they_are_to_be() {
    for point in ["compare.before_commit", "push.before_commit", "push.after_commit", "push.before_settle"] {
        let (server, crm) = Crm::start();
        let folder = shop(12, server.port);
        for (time, then) in [("09:00", "09:03"), ("09:15", "09:18")] {
            let now = format!("2026-03-02T{time}:00Z");
            let mut dying = folder.command(&["--now", &now, "run", "--once"]);
            assert!(
                !dying.env("DRUMBEAT_FAILPOINT", point).output().unwrap().status.success(),
                "{point} was never passed at {time}"
            );
            run(&folder, then, 0);
            let expected = if time == "09:00" { "1" } else { "80" };
            assert_eq!(crm.lock().unwrap().field("c1.test", "health"), expected, "{point} at {time}");
            assert_eq!(crm.lock().unwrap().companies.len(), 12, "{point} at {time}");
            assert_eq!(shown(&folder)["unknown"], 0, "{point} at {time}");
            folder.sql("warehouse.db", "update accounts set health = 80 where account_id in ('a1', 'a2');");
        }
        folder.run(&["audit", "verify"]).code(0);
    }
}

#[test]
fn who_is_erased_leaves_nothing_of_their_records_here() {
    let (server, crm) = Crm::start();
    let folder = shop(3, server.port);
    let of_people = SYNC
        .replace("from: accounts", "from: profiles")
        .replace("{{ account.domain }}", "{{ profile.email }}")
        .replace("tier: \"{{ account.tier }}\"", "tier: \"{{ account.tier }} of {{ profile.account_id }}\"");
    folder.write("syncs/health.yml", &of_people);
    assert_eq!(run(&folder, "09:00", 0)["made"], 3);
    assert_eq!(crm.lock().unwrap().field("p2@c2.test", "tier"), "gold of a2");
    let explained = folder.run(&["--output", "json", "explain", "--profile", "p2"]).code(0).json();
    assert_eq!(explained["records"][0]["record"], "502", "{explained}");
    let erased = folder.run(&["profile", "erase", "p2", "--reason", "asked"]).code(0);
    assert!(erased.err.contains("record 502 (company at crm)"), "{}", erased.err);
    let left = folder.sql("state.db", "select count(*) from record_entry where subject = 'p0000000002';");
    assert_eq!(left.trim(), "0");
    assert_eq!(run(&folder, "09:15", 0)["made"], 0, "the refresh does not bring them back");
    assert_eq!(shown(&folder)["wanted"], 2);
}

#[test]
fn the_example_of_the_readme_is_right() {
    let (server, crm) = Crm::start();
    let folder = shop(3, server.port);
    folder.sql("warehouse.db", "alter table accounts add column plan text; alter table accounts add column since text; update accounts set plan = 'team', since = '2026-01-05';");
    let data = folder.read("data.yml").replace("health, tier", "health, tier, plan, since");
    folder.write("data.yml", &data);
    crm.lock().unwrap().properties.push("plan_note");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let example = readme.split("## Records\n").nth(1).unwrap().split("```yaml\n").nth(1).unwrap();
    folder.write("syncs/health.yml", example.split("```").next().unwrap());
    folder.run(&["check"]).code(0);
    assert_eq!(run(&folder, "09:00", 0)["made"], 3);
    assert_eq!(crm.lock().unwrap().field("c2.test", "plan_note"), "TEAM since 2026-01-05");
    let diff = folder.run(&["--now", "2026-03-02T09:01:00Z", "sync", "diff", "health"]).code(0);
    assert!(diff.out.contains("0 made, 0 written"), "{}", diff.out);
}
