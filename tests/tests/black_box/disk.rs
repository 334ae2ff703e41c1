//! P23: a disk that is full degrades and never lies. The state lies on a small disk of its own, in a name space of its own, which
//! root can make, and elsewhere whoever is let be root in one.

use std::process::Command;

use crate::support::{NOW, binary_path, outbox, project, reachable};

/// Runs a script in a name space of its own, in a project whose state is on a disk of so many MiB, in the folder `disk`. `None`: nobody
/// may make one here, which fails where the environment requires a disk.
fn on_a_small_disk(people: usize, mebibytes: u32, script: &str) -> Option<(crate::support::Folder, String)> {
    let is_let = |flags: &&str| {
        Command::new("unshare").args([flags, "true"]).status().is_ok_and(|status| status.success())
    };
    let Some(flags) = ["-m", "-rm"].into_iter().find(is_let) else {
        assert_ne!(
            std::env::var("DRUMBEAT_TEST_DISK").as_deref(),
            Ok("required"),
            "a name space with a small disk is required here and cannot be made"
        );
        eprintln!("skipped: no name space of its own can be made here, and so no small disk");
        return None;
    };
    let folder = project(people);
    let settings = folder.read("drumbeat.yml");
    folder.write("drumbeat.yml", &settings.replace("sqlite://state.db", "sqlite://disk/state.db"));
    folder.write("disk/.keep", "");
    let all = format!(
        "set -u; mount -t tmpfs -o size={mebibytes}m tmpfs disk\n{script}\ncp disk/state.db* . 2>/dev/null; exit 0"
    );
    folder.write("script.sh", &all);
    let ran = Command::new("unshare")
        .args([flags, "sh", "script.sh"])
        .current_dir(folder.path())
        .env("DRUMBEAT", binary_path())
        .env("NOW", NOW)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    Some((folder, said))
}

#[test]
fn an_almost_full_disk_stops_what_can_wait_and_goes_on_by_itself() {
    let script = r#"
        $DRUMBEAT --now $NOW run --once >/dev/null 2>&1; echo "first $?"
        sqlite3 disk/state.db "delete from segment;"
        dd if=/dev/zero of=disk/filler bs=64k 2>/dev/null; truncate -s -1M disk/filler
        $DRUMBEAT --now 2026-03-04T09:00:00Z --output json run --once; echo "low $?"
        $DRUMBEAT --now 2026-03-04T09:00:00Z consent withdraw 2 --purpose offers --source phone; echo "withdraw $?"
        rm disk/filler
        $DRUMBEAT --now 2026-03-04T09:01:00Z run --once >/dev/null 2>&1; echo "after $?"
        $DRUMBEAT audit verify; echo "verify $?"
    "#;
    let Some((folder, said)) = on_a_small_disk(40, 40, script) else {
        return;
    };
    for word in ["first 0", "low 1", "sys.disk_low", "withdraw 0", "after 0", "verify 0"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let sent = outbox(&folder);
    // The second step goes to those who got the first, but for whoever opted out meanwhile.
    assert_eq!(sent.iter().filter(|line| line["step"] == "hello").count(), reachable(40).len());
    assert_eq!(sent.iter().filter(|line| line["step"] == "again").count(), reachable(40).len() - 1, "{said}");
}

/// Filled up in the middle of whatever: what was said to be sent was sent, once; what was not goes later.
#[test]
fn a_disk_that_fills_up_at_any_moment_loses_nothing_and_repeats_nothing() {
    for moment in 0..8 {
        let script = format!(
            r#"
            ( i=0; while [ $i -lt {count} ]; do i=$((i+1)); done; dd if=/dev/zero of=disk/filler bs=16k 2>/dev/null ) &
            $DRUMBEAT --now $NOW run --once >/dev/null 2>&1; echo "full $?"
            wait; dd if=/dev/zero of=disk/more bs=1k 2>/dev/null
            $DRUMBEAT --now $NOW run --once >/dev/null 2>&1; echo "still $?"
            rm -f disk/filler disk/more
            $DRUMBEAT --now $NOW run --once >/dev/null 2>&1; echo "after $?"
            $DRUMBEAT --output ndjson log > log.jsonl; $DRUMBEAT audit verify; echo "verify $?"
            sqlite3 disk/state.db "pragma integrity_check;"
        "#,
            count = moment * 6_000
        );
        let Some((folder, said)) = on_a_small_disk(400, 24, &script) else { return };
        assert!(
            said.contains("after 0") && said.contains("verify 0") && said.contains("\nok\n"),
            "{moment}: {said}"
        );
        let mut sent: Vec<String> =
            outbox(&folder).iter().map(|line| line["delivery"].as_str().unwrap().to_owned()).collect();
        sent.sort();
        let all = sent.len();
        sent.dedup();
        assert_eq!((sent.len(), all), (reachable(400).len(), reachable(400).len()), "{moment}: {said}");
        let accepted =
            folder.read("log.jsonl").lines().filter(|line| line.contains("\"state\":\"accepted\"")).count();
        assert_eq!(accepted, all, "{moment}: {said}");
    }
}
