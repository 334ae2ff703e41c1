//! `playbooks/shop` as its README says to run it: a warehouse of purchases, a mail server, and three moments of a campaign.
//!
//! The purchases are those of CDNOW where `DRUMBEAT_TEST_CDNOW` names that file, and otherwise 600 people's in the same
//! format, made by arithmetic.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::{door, root};

use crate::support::{Folder, Sink};

const PURCHASES: &str = "select ' customer_id  date number_of_cds  dollar_value';
    select printf(' %05d %s %2d %7.2f', person.value,
        strftime('%Y%m%d', '1997-01-01', '+' || (person.value * 7 % 90 + (bought.value - 1) * (20 + person.value * 13 % 80)) || ' days'),
        1 + person.value % 3, 9.5 + person.value * bought.value % 40 + case when person.value % 20 = 9 then 40 else 0 end)
    from generate_series(1, 600) person, generate_series(1, 5) bought
    where bought.value <= case when person.value % 10 < 4 then 1 when person.value % 10 < 8 then 2 else 5 end
    order by person.value, bought.value;";

/// When the campaign is run: Europe's day, America's day, and a week later.
const TIMES: [&str; 3] = ["1998-04-01T09:00:00Z", "1998-04-01T18:30:00Z", "1998-04-08T19:00:00Z"];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if !["db", "db-wal", "db-shm"].iter().any(|end| to.extension() == Some(end.as_ref())) {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A copy of the project, with its warehouse, that sends to this port.
fn shop(port: u16) -> Folder {
    let folder = Folder::empty();
    copy(&root().join("playbooks/shop"), folder.path());
    let settings = folder.read("drumbeat.yml");
    assert!(settings.contains("port: 1025"));
    folder.write("drumbeat.yml", &settings.replace("port: 1025", &format!("port: {port}")));
    let purchases = std::env::var_os("DRUMBEAT_TEST_CDNOW").map_or_else(
        || {
            folder.write("purchases.txt", &folder.sql("empty.db", PURCHASES));
            folder.path().join("purchases.txt")
        },
        PathBuf::from,
    );
    let made = door()
        .args(["warehouse", "cdnow"])
        .arg(purchases)
        .arg(folder.path().join("warehouse.db"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
}

fn ids(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

fn plain(folder: &Folder, sql: &str) -> BTreeSet<String> {
    ids(&folder.sql("warehouse.db", sql))
}

/// Who a mail is for.
fn recipient(message: &str) -> &str {
    message.lines().find_map(|line| line.strip_prefix("X-Rcpt-Args: ")).unwrap().trim_matches(['<', '>'])
}

#[test]
fn the_shop_wins_people_back_as_its_manual_says() {
    let Some(sink) = Sink::start(&["-c"]) else { return };
    let folder = shop(sink.port);
    folder.run(&["check"]).code(0);
    for now in TIMES {
        let plan = folder.run(&["--now", now, "--output", "json", "plan"]).code(0).json();
        let before = sink.messages().len();
        let run = folder.run(&["--now", now, "--output", "json", "run", "--once"]).code(0).json();
        assert_eq!(plan["segments"], run["segments"], "{now}");
        assert_eq!(plan["decisions"], run["decisions"], "{now}");
        assert_eq!(plan["deliveries"]["accepted"], run["deliveries"]["accepted"], "{now}");
        let after = sink.messages().len();
        assert_eq!(run["deliveries"]["accepted"].as_u64(), Some((after - before) as u64), "{now}");
        folder.run(&["--now", now, "run", "--once"]).code(0);
        assert_eq!(sink.messages().len(), after, "a second pass at {now} sends nothing");
    }

    // The segments, by plain SQL at the last time.
    let spent = "select customer_id from orders where ordered_at <= '1998-04-08T19:00:00Z' group by customer_id having ";
    for (segment, having) in [
        ("regulars", "count(*) >= 4"),
        ("big_spenders", "sum(total) >= 250"),
        ("lapsed", "(count(*) >= 4 or sum(total) >= 250) and max(ordered_at) < '1998-01-08T19:00:00Z'"),
        ("lapsed_big_spenders", "sum(total) >= 250 and max(ordered_at) < '1998-01-08T19:00:00Z'"),
        ("back", "max(ordered_at) >= '1998-03-25T19:00:00Z'"),
    ] {
        let members =
            folder.run(&["--output", "ndjson", "segment", "show", segment, "--members"]).code(0).lines();
        let members: BTreeSet<String> =
            members.iter().map(|row| row["profile"].as_str().unwrap().to_owned()).collect();
        assert_eq!(members, plain(&folder, &format!("{spent}{having}")), "{segment}");
        assert!(!members.is_empty(), "{segment}");
    }

    // Everybody who ever was in the segment is in the log, and once a step.
    let log = folder.run(&["--output", "ndjson", "log"]).code(0).lines();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let mut rows: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for row in &log {
        *rows.entry((word(row, "playbook"), word(row, "step"), word(row, "profile"))).or_default() += 1;
    }
    assert!(rows.values().all(|count| *count == 1));
    let won: BTreeSet<String> =
        log.iter().filter(|row| row["playbook"] == "win_back").map(|row| word(row, "profile")).collect();
    let lapsed = |now: &str, ago: &str| {
        plain(
            &folder,
            &format!(
                "select customer_id from orders where ordered_at <= '{now}' group by customer_id \
            having (count(*) >= 4 or sum(total) >= 250) and max(ordered_at) < '{ago}'"
            ),
        )
    };
    let ever: BTreeSet<String> = [
        lapsed(TIMES[0], "1998-01-01T09:00:00Z"),
        lapsed(TIMES[1], "1998-01-01T18:30:00Z"),
        lapsed(TIMES[2], "1998-01-08T19:00:00Z"),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(won, ever);

    // Every mail went to somebody who had agreed and whose address can be one, and nobody got two on a day.
    let messages = sink.messages();
    let accepted = log.iter().filter(|row| row["state"] == "accepted").count();
    assert_eq!(messages.len(), accepted);
    assert!(accepted > 0);
    let (agreed, refused) = (
        plain(
            &folder,
            "select email from customers join consents using (customer_id) where purpose = 'offers' and status = 'granted'",
        ),
        plain(
            &folder,
            "select email from customers join consents using (customer_id) where purpose = 'tips' and status = 'withdrawn'",
        ),
    );
    for message in &messages {
        // What wins back is an offer, for those who agreed; the second order's mail is a tip, for those who did not refuse.
        let to = recipient(message);
        let tip = message.contains("\nList-Id: <tips.");
        assert!(if tip { !refused.contains(to) } else { agreed.contains(to) }, "{message}");
    }
    let offers = log.iter().filter(|row| ["offer", "best_offer"].contains(&row["step"].as_str().unwrap()));
    assert!(offers.filter(|row| row["state"] == "accepted").count() > 0, "a week later there are offers");
    folder.run(&["test"]).code(0);
    folder.run(&["audit", "verify"]).code(0);
}
