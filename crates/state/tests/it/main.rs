//! The conformance suite: every promise of the state, as plain functions over a state, run over SQLite always
//! and over Postgres where a server can be started (see `postgres.rs`). Besides it, what only one of the two
//! can show.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without, it fails without")]

mod conformance;
mod many_nodes;
mod opening;
mod postgres;
mod tampering;
mod world;

/// Runs each function once a database.
macro_rules! conformance {
    ($($module:ident: $($name:ident)*;)*) => {
        mod sqlite {
            $(mod $module { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let world = crate::world::sqlite().await;
                    crate::conformance::$module::$name(&world).await;
                }
            )* })*
        }
        mod in_postgres {
            $(mod $module { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let Some(world) = crate::world::postgres().await else { return };
                    crate::conformance::$module::$name(&world).await;
                }
            )* })*
        }
    };
}

conformance! {
    people:
        numbers_are_dense_and_stay
        an_erased_person_does_not_come_back
        ids_of_any_letters_are_kept
        two_who_intern_at_once_agree;
    segments:
        a_run_happens_once
        a_held_run_changes_nothing_in_force
        any_day_is_read_back
        a_break_ends_being_in_it_for_so_long
        a_run_that_does_not_add_up_is_refused;
    playbooks:
        a_playbook_is_kept_and_works_forwards
        a_version_is_kept_once
        entering_rows_are_there_until_cleared;
    enrollments:
        an_enrollment_is_read_back_as_it_was
        one_that_ended_is_not_begun_again
        a_person_is_under_way_once
        due_ones_come_in_pages
        standings_are_of_the_latest;
    deliveries:
        a_delivery_is_read_back_as_it_was
        only_a_deferred_row_is_decided_anew
        touches_are_what_counts
        cancelling_stops_before_arming_only
        the_log_is_paged_and_filtered
        next_due_is_the_earliest;
    outbox:
        claims_are_in_order_and_disjoint
        claimers_at_once_share_the_rows
        a_lease_that_ran_out_goes_back_and_its_fence_is_dead
        what_is_armed_never_goes_back_by_time
        an_attempt_is_settled_once
        what_a_process_dies_of_is_poison_and_nobody_else_is
        a_late_answer_ends_a_doubt
        a_retry_is_pending_again
        what_is_given_back_is_decided_or_refused
        a_dead_process_leaves_doubts_and_no_leases
        a_person_closes_a_doubt
        an_attempt_that_was_forgotten_is_put_in_once
        what_was_sent_again_is_not_so_a_second_time
        a_scratch_state_is_a_copy_to_play_on;
    rates:
        who_takes_turns_at_once_keeps_to_every_rate
        who_waits_for_a_turn_keeps_nobody_else_waiting;
    nodes:
        a_node_that_ends_is_buried_and_what_it_had_is_taken_over
        one_that_leaves_gives_back_what_it_had
        what_each_counts_is_added_up;
    records:
        a_set_is_made_once_and_people_and_accounts_are_in_order
        what_may_stand_in_a_record_is_noted_until_it_is_heard
        a_key_that_two_have_is_refused_for_both
        what_is_undone_or_emptied_is_forgotten_and_who_is_erased_at_once;
    audiences:
        an_audience_is_made_once_and_remembers_its_id
        what_is_handed_over_is_remembered_until_it_is_gone
        what_changed_while_it_was_asked_stays_to_be_done
        the_old_waits_for_the_new_and_what_another_has_stays
        whoever_says_no_is_doubtful_at_once
        the_last_run_of_a_sync_is_kept;
    consents:
        an_event_is_added_once
        an_import_writes_only_changes
        a_local_no_survives_an_old_list
        an_import_does_not_overtake_a_no
        suppression_is_by_person_and_address
        suppressing_waits_for_the_armer
        facts_halts_and_values_are_kept;
    logs:
        entries_are_sealed_in_order_and_verify
        sealers_at_once_agree
        append_only_tables_refuse
        keys_are_made_once_and_need_their_root_key
        a_reader_cannot_write_and_sees_one_snapshot
        a_transaction_that_is_dropped_is_undone;
}
