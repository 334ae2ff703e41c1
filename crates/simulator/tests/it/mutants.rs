//! Mutants: deliberate breaks that a test must catch. Each is named in the code that it breaks and chosen by the environment, so
//! that one build runs them all.

use std::collections::BTreeSet;
use std::process::{Command, Output};

const PURE: &str = "pure::a_season_of_campaigns_keeps_every_promise";
const LONG: &str = "directed::a_pass_that_takes_long_does_what_was_due_when_it_began";
const DYING: &str = "composed::a_process_that_dies_anywhere_keeps_every_promise";

/// A mutant that dies in the simulator, the test that kills it, and what that test must say: one that dies of something else is not
/// understood. All there are, with the test nearest to each, are in `tests/mutants.txt`, which a tidy test holds complete.
const KILLED: &[(&str, &str, &str)] = &[
    ("cap_off_by_one", PURE, "CAP_HOLDS"),
    ("consent_plain", "directed::an_old_list_imported_again_does_not_overturn_a_no", "an old list"),
    ("deaths_uncounted", "directed::what_processes_die_with_is_left_out_after_the_third", "tried for ever"),
    ("decide_overwrites", "directed::a_decision_that_comes_late_sends_nothing_again", "sent again"),
    ("double_touch", PURE, "TOUCH_ONCE"),
    ("fence_unchecked", "directed::a_claim_whose_lease_went_to_another_arms_nothing", "a stale claim"),
    (
        "guard_ignored",
        "directed::a_playbook_that_bounces_is_halted_until_a_person_has_looked",
        "nothing is halted",
    ),
    ("holdout_ignored", PURE, "HOLDOUT_SILENT"),
    ("late_at_once", "directed::after_a_long_downtime_nothing_goes_by_itself_that_is_overdue", "1 went"),
    ("lost_candidate", PURE, "CONSERVATION"),
    ("out_without_a_row", PURE, "CONSERVATION"),
    ("pass_moves_on", LONG, "what is to wait does not"),
    ("quiet_ignores_zone", PURE, "QUIET_HOLDS"),
    ("reap_armed", "directed::what_is_armed_is_not_taken_back_by_time", "taken back"),
    ("resume_from_start", DYING, "CONSERVATION"),
    ("skip_consent", PURE, "CONSENT_HOLDS"),
    ("skip_suppression", PURE, "SUPPRESSION_WINS"),
    ("void_armed", DYING, "PASS_ENDS"),
];

/// So many seeds are enough for each of them.
const SEEDS: &str = "12";

#[test]
fn every_mutant_is_killed() {
    let tests: BTreeSet<&str> = KILLED.iter().map(|(_, test, _)| *test).collect();
    for test in tests {
        let sound = run(test, None);
        assert!(sound.status.success(), "{test} fails without a mutant:\n{}", said(&sound));
    }
    for (mutant, test, says) in KILLED {
        let mutated = run(test, Some(mutant));
        assert!(!mutated.status.success(), "{mutant} survives {test}");
        assert!(
            said(&mutated).contains(says),
            "{mutant} dies in {test}, but not of `{says}`:\n{}",
            said(&mutated)
        );
    }
}

fn run(test: &str, mutant: Option<&str>) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact"])
        .env("DRUMBEAT_SEEDS", SEEDS)
        .env_remove("DRUMBEAT_SEED")
        .env_remove("DRUMBEAT_MUTANT");
    if let Some(mutant) = mutant {
        command.env("DRUMBEAT_MUTANT", mutant);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
