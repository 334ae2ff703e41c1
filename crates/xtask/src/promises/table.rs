//! Everything that is promised: in which words, where it is shown, by which break of it that is seen, and what is not shown.

/// A promise.
pub(super) struct Promise {
    /// `P` and a number.
    pub(super) name: &'static str,
    /// What is promised.
    pub(super) words: &'static str,
    /// How it is tried, seed by seed.
    pub(super) tried: &'static [Tried],
    /// Tests that show it, or a part of it: room and name.
    pub(super) tests: &'static [(&'static str, &'static str)],
    /// Deliberate breaks of it, as in `tests/mutants.txt`.
    pub(super) mutants: &'static [&'static str],
    /// What no test shows.
    pub(super) missing: &'static str,
}

/// A way in which a promise is tried: its seeds are a test of `tests/black_box/promises`.
pub(super) struct Tried {
    /// As what it is recorded.
    pub(super) name: &'static str,
    /// What is tried, where it is not all that is promised.
    pub(super) words: &'static str,
    /// Over which databases.
    pub(super) stores: &'static [&'static str],
    /// How many tries there are to be over each.
    pub(super) wanted: u64,
    /// What a try is.
    pub(super) unit: &'static str,
}

const BOTH: &[&str] = &["SQLite", "Postgres"];

/// A way in which a promise is tried, whole.
const fn whole(
    name: &'static str,
    stores: &'static [&'static str],
    wanted: u64,
    unit: &'static str,
) -> Tried {
    Tried { name, words: "", stores, wanted, unit }
}

/// Every promise, in order.
pub(super) const PROMISES: &[Promise] = &[
    Promise {
        name: "P1",
        words: "Killed at any failpoint, no message goes twice, none is lost, and every doubt is listed",
        tried: &[
            whole("P1", BOTH, 32_000, "kills"),
            Tried {
                name: "P1 (HTTP)",
                words: "On the way of a webhook nothing has two effects, and in the end nothing is in doubt",
                stores: BOTH,
                wanted: 32_000,
                unit: "kills",
            },
        ],
        tests: &[
            ("tests", "killed_at_any_point_over_sqlite"),
            ("tests", "killed_at_any_point_of_a_hook_over_sqlite"),
            ("simulator", "a_process_that_dies_anywhere_keeps_every_promise"),
            ("tests", "entering_goes_on_after_the_last_page_that_was_committed"),
        ],
        mutants: &["void_armed", "reap_armed", "fence_unchecked", "resume_from_start"],
        missing: "",
    },
    Promise {
        name: "P2",
        words: "Killed at any instant, likewise",
        tried: &[
            whole("P2", BOTH, 10_000, "kills"),
            Tried {
                name: "P2 (HTTP)",
                words: "On the way of a webhook",
                stores: &["SQLite"],
                wanted: 10_000,
                unit: "kills",
            },
        ],
        tests: &[
            ("tests", "killed_at_any_instant_over_sqlite"),
            ("tests", "killed_at_any_instant_of_a_hook_over_sqlite"),
        ],
        mutants: &["void_armed"],
        missing: "",
    },
    Promise {
        name: "P3",
        words: "After a power loss what was acknowledged is there: opt-outs, acceptances, the log",
        tried: &[],
        tests: &[],
        mutants: &[],
        missing: "all of it: nothing loses what was written and not synced",
    },
    Promise {
        name: "P4",
        words: "Every error of reading and writing is survived: nothing twice, nothing lost, the state whole",
        tried: &[],
        tests: &[("tests", "a_disk_that_fills_up_at_any_moment_loses_nothing_and_repeats_nothing")],
        mutants: &[],
        missing: "errors other than a full disk, one at every call",
    },
    Promise {
        name: "P5",
        words: "Five nodes that die, stand still, leave, lose Postgres, which crashes, and have clocks an hour off: likewise, and all is done \
                in the end",
        tried: &[whole("P5", &["Postgres"], 500, "faults")],
        tests: &[
            ("tests", "five_nodes_that_die_and_stand_still_over_postgres"),
            ("state", "one_that_stands_still_is_buried_and_has_no_rights_when_it_wakes"),
        ],
        mutants: &["fence_unchecked"],
        missing: "a million deliveries; how soon as much is delivered as before",
    },
    Promise {
        name: "P6",
        words: "Postgres may crash, and a failover that lost commits stops everything",
        tried: &[],
        tests: &[
            ("tests", "a_failover_that_lost_commits_stops_everything"),
            ("tests", "five_nodes_that_die_and_stand_still_over_postgres"),
        ],
        mutants: &["failover_unseen"],
        missing: "200 crashes and 50 failovers on record",
    },
    Promise {
        name: "P7",
        words: "One run a tick and one delivery a key, however many processes begin at the same instant",
        tried: &[whole("P7", &["Postgres"], 10_000, "ticks")],
        tests: &[
            ("tests", "whoever_else_begins_at_the_same_instant_a_tick_happens_once"),
            ("state", "a_tick_happens_once_however_many_decide"),
            ("engine", "a_settled_row_is_an_outcome_and_never_decided_anew"),
        ],
        mutants: &["lead_unchecked", "double_touch"],
        missing: "",
    },
    Promise {
        name: "P8",
        words: "A doubt is visible, and shrinks: looked up or sent again only where that does no harm",
        tried: &[],
        tests: &[
            ("tests", "a_lost_answer_is_asked_for_where_the_provider_can_be_asked"),
            ("tests", "a_lost_answer_goes_again_under_its_key_where_the_provider_knows_it"),
            ("tests", "a_lost_answer_stays_a_doubt_where_nobody_can_be_asked"),
            ("tests", "doubts_are_shown_and_closed_together"),
        ],
        mutants: &["doubt_resent"],
        missing: "how soon; 30 days without a doubt that nobody owns",
    },
    Promise {
        name: "P9",
        words: "Nothing is handed over of which the last look came after an opt-out was answered",
        tried: &[whole("P9", BOTH, 1_000_000, "messages that were to come")],
        tests: &[
            ("tests", "nothing_is_handed_over_after_an_opt_out_over_sqlite"),
            ("tests", "nothing_is_handed_over_after_an_opt_out_over_postgres"),
            ("state", "suppressing_waits_for_the_armer"),
            ("simulator", "an_opt_out_between_rendering_and_arming_is_seen"),
        ],
        mutants: &["unlooked", "read_unlocked"],
        missing: "",
    },
    Promise {
        name: "P10",
        words: "An opt-out that was answered is never lost, though the process is killed the moment it has answered",
        tried: &[whole("P10", BOTH, 10_000, "opt-outs")],
        tests: &[
            ("tests", "an_answered_opt_out_outlives_a_kill_over_sqlite"),
            ("tests", "an_answered_opt_out_outlives_a_kill_over_postgres"),
        ],
        mutants: &["answered_first"],
        missing: "opting out while the database is down: it is answered 503, and not kept",
    },
    Promise {
        name: "P11",
        words: "An opt-out reaches every destination, and is never behind those who are added",
        tried: &[],
        tests: &[
            ("tests", "who_says_no_before_it_is_handed_over_is_not_added"),
            ("tests", "too_many_who_leave_wait_for_a_person_and_who_says_no_does_not"),
            ("tests", "who_may_have_been_handed_over_is_removed_after_a_crash"),
        ],
        mutants: &["member_unlooked", "no_unheard", "hand_over_unnoted"],
        missing: "how soon",
    },
    Promise {
        name: "P12",
        words: "Reading never changes consent",
        tried: &[],
        tests: &[("tests", "one_click_opts_out_and_reading_does_not")],
        mutants: &[],
        missing: "scanners, a browser with scripts",
    },
    Promise {
        name: "P13",
        words: "Caps of a person, an address and a company hold under forty workers, to the message",
        tried: &[whole("P13", BOTH, 1_000_000, "arms")],
        tests: &[
            ("tests", "caps_hold_under_forty_workers"),
            ("tests", "caps_hold_over_sqlite"),
            ("engine", "over_any_history_no_window_ever_holds_more_than_the_cap"),
        ],
        mutants: &["unlooked", "cap_off_by_one"],
        missing: "",
    },
    Promise {
        name: "P14",
        words: "Rates of a destination, a sending domain and a provider of mailboxes hold, for all nodes together",
        tried: &[],
        tests: &[
            ("tests", "nodes_share_the_rate_of_a_destination"),
            ("tests", "nodes_share_the_rates_of_a_domain_and_of_its_recipients"),
            ("tests", "a_full_group_keeps_nobody_waiting_over_postgres"),
            ("daemon", "a_burst_goes_at_once_and_the_next_waits_its_share"),
        ],
        mutants: &["rate_unshared", "provider_rate_ignored", "lane_forgotten", "turn_not_given_back"],
        missing: "that a rate is used, to 97 %",
    },
    Promise {
        name: "P15",
        words: "Quiet hours hold in every zone, at every change of clocks",
        tried: &[],
        tests: &[
            ("engine", "quiet_hours_are_those_of_the_wall_clock_at_every_change_of_46_zones"),
            ("engine", "quiet_hours_are_read_in_the_persons_own_zone_or_else_the_projects"),
        ],
        mutants: &["quiet_ignores_zone"],
        missing: "the other zones",
    },
    Promise {
        name: "P16",
        words: "An hourly limit holds under forty workers, to the message",
        tried: &[whole("P16", BOTH, 100_000, "arms")],
        tests: &[("tests", "an_hour_holds_under_forty_workers"), ("tests", "an_hour_holds_over_sqlite")],
        mutants: &["allowance_unheld"],
        missing: "",
    },
    Promise {
        name: "P17",
        words: "Jumps of the clock are harmless",
        tried: &[],
        tests: &[
            ("daemon", "a_jump_is_what_a_steady_clock_does_not_explain"),
            ("tests", "five_nodes_that_die_and_stand_still_over_postgres"),
        ],
        mutants: &[],
        missing: "jumps while it runs; a clock that stands still, runs fast, or is years off; the database's clock",
    },
    Promise {
        name: "P18",
        words: "Changes of clocks and missed ticks are foreseeable",
        tried: &[],
        tests: &[
            ("model", "a_daily_time_in_the_gap_runs_at_the_first_valid_instant"),
            ("model", "a_daily_time_in_the_fold_runs_once_and_early"),
            ("model", "an_hourly_time_skips_the_gap_and_runs_twice_in_the_fold"),
            ("model", "the_latest_missed_time_is_found_over_any_absence"),
        ],
        mutants: &[],
        missing: "ten years of four zones against an independent oracle",
    },
    Promise {
        name: "P19",
        words: "A long downtime is never followed by a burst",
        tried: &[],
        tests: &[("simulator", "after_a_long_downtime_nothing_goes_by_itself_that_is_overdue")],
        mutants: &["late_at_once"],
        missing: "",
    },
    Promise {
        name: "P20",
        words: "Upgrades and their taking back under load",
        tried: &[],
        tests: &[],
        mutants: &[],
        missing: "all of it",
    },
    Promise {
        name: "P21",
        words: "A state that was put back from a copy sends nothing until a person has looked, and then nothing that went out since the copy was made",
        tried: &[whole("P21", &["SQLite"], 10_000, "messages that it would send again")],
        tests: &[
            ("tests", "a_state_that_was_put_back_sends_nothing_by_itself"),
            ("tests", "a_restored_state_sends_nothing_until_a_person_has_looked"),
            ("tests", "what_went_out_since_a_backup_is_known_again_and_goes_to_nobody_twice"),
            ("tests", "what_nobody_knew_of_is_in_doubt_after_a_restore"),
            ("tests", "a_failover_that_lost_commits_stops_everything"),
        ],
        mutants: &["restore_unhalted", "armed_unjournaled", "number_trusted"],
        missing: "that 99.9 % of what went since is known again, tried many times",
    },
    Promise {
        name: "P22",
        words: "A copy that is made while it delivers is good, and with any one bit of it or of its manifest changed it is not",
        tried: &[whole("P22", &["SQLite"], 1_000, "changed bits")],
        tests: &[
            ("tests", "a_damaged_copy_is_never_taken_for_a_good_one"),
            ("state", "a_backup_is_checked_to_the_last_byte"),
        ],
        mutants: &["backup_trusted"],
        missing: "",
    },
    Promise {
        name: "P23",
        words: "A full disk stops what can wait, and nothing is untrue",
        tried: &[],
        tests: &[
            ("tests", "an_almost_full_disk_stops_what_can_wait_and_goes_on_by_itself"),
            ("tests", "a_disk_that_fills_up_at_any_moment_loses_nothing_and_repeats_nothing"),
        ],
        mutants: &["disk_unseen"],
        missing: "100,000 more opt-outs on a full disk",
    },
    Promise {
        name: "P24",
        words: "What a process dies of, and a bad row, keep nobody else waiting",
        tried: &[],
        tests: &[
            ("tests", "who_a_process_dies_of_is_left_out_after_three_times_and_nobody_else_is"),
            ("tests", "a_message_that_panics_keeps_nobody_else_waiting"),
            ("state", "what_a_process_dies_of_is_poison_and_nobody_else_is"),
            ("tests", "one_bad_row_keeps_nobody_out_and_comes_back_by_itself"),
        ],
        mutants: &["deaths_uncounted", "batch_whole"],
        missing: "by how much others are delayed",
    },
    Promise {
        name: "P25",
        words: "After `halt` has returned nothing is armed later than a second, on any node, though all are killed and started",
        tried: &[whole("P25", BOTH, 500, "halts")],
        tests: &[
            ("tests", "a_halt_holds_after_a_second_over_sqlite"),
            ("tests", "a_halt_holds_after_a_second_over_postgres"),
        ],
        mutants: &["unlooked"],
        missing: "a database that is slow",
    },
    Promise {
        name: "P26",
        words: "Guards trip before harm, and leave quiet weeks alone",
        tried: &[],
        tests: &[
            ("engine", "each_guard_trips_on_its_incident"),
            ("engine", "nobody_gets_the_same_words_twice_within_a_day"),
            ("engine", "quiet_weeks_are_left_alone"),
            ("simulator", "a_playbook_that_bounces_is_halted_until_a_person_has_looked"),
            ("simulator", "a_segment_that_explodes_is_held_until_a_person_says_that_it_may"),
            ("tests", "a_large_first_run_waits_for_a_second_person_and_its_canary_goes_alone"),
        ],
        mutants: &[
            "guard_ignored",
            "canary_free",
            "removal_unheld",
            "clearing_unheld",
            "fallback_unseen",
            "words_twice",
        ],
        missing: "",
    },
    Promise {
        name: "P27",
        words: "Who is told to end while it delivers ends within 30 seconds and leaves nothing in doubt, twice or lost",
        tried: &[whole("P27", BOTH, 500, "SIGTERMs")],
        tests: &[
            ("tests", "who_is_told_to_end_leaves_nothing_in_doubt_over_sqlite"),
            ("tests", "who_is_told_to_end_leaves_nothing_in_doubt_over_postgres"),
        ],
        mutants: &["drain_cut"],
        missing: "",
    },
];
