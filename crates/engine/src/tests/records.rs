//! What is written into records: what is wanted in the end, and nobody else's word lost.

use model::Reason;
use model::id::IdentityHash;
use model::sync::{Gone, Has, OnEdit, RecordEntry, RecordTodo};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::record::{
    FieldValues, PlannedEntry, Present, RecordPast, Wanted, adopt, hand_over, is_same, plan_entries,
    plan_record, plan_undo, taken,
};

fn fields(pairs: &[(&str, Value)]) -> FieldValues {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// A CRM with one record, and somebody who edits it.
#[derive(Debug, Clone, Default)]
struct Crm {
    fields: FieldValues,
    /// Whether what stands in a field is a person's.
    edited: std::collections::BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum Event {
    Wants(FieldValues),
    /// The write is taken; or its answer is lost after it was taken; or it never arrived.
    Syncs(Arrives),
    Edits(String, Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Arrives {
    Heard,
    Unheard,
    Never,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), (0..4_i64).prop_map(Value::from), "[ab]{1,2}".prop_map(Value::from)]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("health".to_owned()), Just("plan".to_owned())]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        proptest::collection::btree_map(name(), value(), 1..3).prop_map(Event::Wants),
        prop_oneof![Just(Arrives::Heard), Just(Arrives::Heard), Just(Arrives::Unheard), Just(Arrives::Never)]
            .prop_map(Event::Syncs),
        (name(), value()).prop_map(|(name, value)| Event::Edits(name, value)),
    ]
}

proptest! {
    /// With `keep`, what a person wrote is never changed, whatever is lost on the way; without an edit the record comes to be what is wanted; and
    /// what is undone leaves what was there before, or a person's word.
    #[test]
    fn a_persons_word_stays(start in proptest::collection::btree_map(name(), value(), 0..3), events in proptest::collection::vec(event(), 1..24)) {
        let mut crm = Crm { fields: start.clone(), ..Crm::default() };
        crm.edited.extend(start.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()));
        let (mut wanted, mut past) = (FieldValues::new(), RecordPast::new());
        // Whatever was wanted of a field at any time: a person who writes just that is taken for us, and loses nothing by it.
        let mut ever: Vec<(String, Value)> = Vec::new();
        let is_theirs = |ever: &[(String, Value)], crm: &Crm, name: &String| {
            let stands = crm.fields.get(name).unwrap_or(&Value::Null);
            crm.edited.contains(name) && !stands.is_null()
                && !ever.iter().any(|(of, value)| of == name && is_same(value, stands))
        };
        let sync = |wanted: &FieldValues, past: &mut RecordPast, crm: &mut Crm, arrives: Arrives| {
            let read = crm.fields.clone();
            let present = Present::Fields(&read);
            let plan = plan_record(wanted, past, present, OnEdit::Keep);
            adopt(past, wanted, present);
            hand_over(past, &plan.write, present);
            if arrives != Arrives::Never {
                crm.fields.extend(plan.write.clone());
            }
            if arrives == Arrives::Heard {
                taken(past, &plan.write, &FieldValues::new());
            }
            plan
        };
        for event in events {
            match event {
                Event::Wants(more) => {
                    ever.extend(more.clone());
                    wanted.extend(more);
                }
                Event::Edits(name, value) => {
                    // Who writes what stands there already has changed nothing.
                    if !is_same(crm.fields.get(&name).unwrap_or(&Value::Null), &value) {
                        crm.fields.insert(name.clone(), value);
                        crm.edited.insert(name);
                    }
                }
                Event::Syncs(arrives) => {
                    let before = crm.clone();
                    let plan = sync(&wanted, &mut past, &mut crm, arrives);
                    for name in plan.write.keys() {
                        prop_assert!(!is_theirs(&ever, &before, name), "{name} was {:?}", before.fields.get(name));
                        crm.edited.remove(name);
                    }
                }
            }
        }
        sync(&wanted, &mut past, &mut crm, Arrives::Heard);
        for (name, value) in &wanted {
            let is_kept = crm.edited.contains(name) || (value.is_null() && !past.contains_key(name));
            let stands = crm.fields.get(name).unwrap_or(&Value::Null);
            prop_assert!(is_kept || is_same(stands, value), "{name} is {stands}, and not {value}");
        }
        prop_assert!(plan_record(&wanted, &past, Present::Fields(&crm.fields), OnEdit::Keep).write.is_empty());
        let undone = plan_undo(&past, Present::Fields(&crm.fields), false);
        for (name, value) in &undone.write {
            prop_assert!(!is_theirs(&ever, &crm, name));
            prop_assert_eq!(Some(value), past[name].before.as_ref());
        }
    }
}

#[test]
fn only_what_is_ours_or_was_empty_is_written() {
    let wanted = fields(&[("health", json!(80)), ("plan", json!("team")), ("note", Value::Null)]);
    let none = RecordPast::new();
    let plan = |past: &RecordPast, present: &FieldValues, on_edit| {
        plan_record(&wanted, past, Present::Fields(present), on_edit)
    };
    let there = fields(&[("health", json!("75")), ("plan", Value::Null), ("note", json!("call me"))]);
    let kept = plan(&none, &there, OnEdit::Keep);
    assert_eq!(kept.write, fields(&[("plan", json!("team"))]));
    assert_eq!(kept.kept, ["health"]);
    let over = plan(&none, &there, OnEdit::Overwrite);
    assert_eq!(
        over.write,
        fields(&[("health", json!(80)), ("plan", json!("team"))]),
        "the note was never ours"
    );
    // What we wrote changes with the warehouse.
    let mut past = RecordPast::new();
    taken(&mut past, &fields(&[("health", json!(75)), ("note", json!("call me"))]), &FieldValues::new());
    let ours = plan(&past, &there, OnEdit::Keep);
    assert_eq!(ours.write, fields(&[("health", json!(80)), ("plan", json!("team")), ("note", Value::Null)]));
    // So does what stood there as it was wanted.
    let mut agreed = RecordPast::new();
    assert!(adopt(
        &mut agreed,
        &fields(&[("health", json!(75)), ("plan", json!("team"))]),
        Present::Fields(&there)
    ));
    assert_eq!(
        plan(&agreed, &there, OnEdit::Keep).write,
        fields(&[("health", json!(80)), ("plan", json!("team"))])
    );
    assert!(
        !adopt(&mut agreed, &fields(&[("health", json!(75))]), Present::Fields(&there)),
        "it is ours already"
    );
    // Whoever empties it has edited it.
    let emptied = plan(&past, &fields(&[("plan", json!("team"))]), OnEdit::Keep);
    assert_eq!((emptied.write.len(), emptied.kept.as_slice()), (0, &["health".to_owned()][..]));
}

#[test]
fn what_is_undone_is_as_it_was_unless_somebody_wrote_since() {
    let mut past = RecordPast::new();
    let there = fields(&[("health", json!("old")), ("plan", Value::Null)]);
    let write = fields(&[("health", json!(80)), ("plan", json!("team"))]);
    hand_over(&mut past, &write, Present::Fields(&there));
    taken(&mut past, &write, &fields(&[("health", json!("80.0"))]));
    let now = fields(&[("health", json!("80.0")), ("plan", json!("theirs"))]);
    let undo = plan_undo(&past, Present::Fields(&now), false);
    assert_eq!(undo.write, fields(&[("health", json!("old"))]));
    assert_eq!(undo.kept, ["plan"]);
    let clear = plan_undo(&past, Present::Fields(&now), true);
    assert_eq!(clear.write, fields(&[("health", Value::Null)]));
    assert!(plan_undo(&past, Present::Nothing, false).write.is_empty());
}

#[test]
fn what_was_written_is_read_back_as_it_was_kept() {
    let mut past = RecordPast::new();
    let write = fields(&[("health", json!(80)), ("plan", json!("team"))]);
    hand_over(&mut past, &write, Present::Fields(&fields(&[("health", json!("old"))])));
    past.insert("unknown".to_owned(), crate::record::FieldPast { before: None, ours: vec![Value::Null] });
    assert_eq!(past["plan"].before, Some(Value::Null));
    let kept = serde_json::to_string(&past).unwrap();
    assert_eq!(serde_json::from_str::<RecordPast>(&kept).unwrap(), past);
}

#[test]
fn a_value_is_the_same_however_a_crm_writes_it() {
    for (one, other) in [
        (json!(5), json!("5")),
        (json!(5), json!("5.0")),
        (json!(5.5), json!("5.50")),
        (json!(true), json!("true")),
        (json!(" team "), json!("team")),
        (json!(null), json!("")),
        (json!("2026-03-02T09:00:00Z"), json!("2026-03-02T09:00:00.000+0000")),
        (json!("2026-03-02T09:00:00Z"), json!("2026-03-02T10:00:00+01:00")),
        (json!("2026-03-02"), json!("2026-03-02T00:00:00Z")),
    ] {
        assert!(is_same(&one, &other) && is_same(&other, &one), "{one} {other}");
    }
    for (one, other) in [
        (json!(5), json!(6)),
        (json!(false), json!(0)),
        (json!(0), json!(null)),
        (json!("Team"), json!("team")),
        (json!("2026-03-02"), json!("2026-03-03")),
        (json!("a"), json!(null)),
    ] {
        assert!(!is_same(&one, &other), "{one} {other}");
    }
}

fn entry(key: &str, todo: RecordTodo, has: Has, reason: Reason) -> RecordEntry {
    RecordEntry { key: IdentityHash::known(key.to_owned()), digest: "d".to_owned(), todo, has, reason }
}

fn put(key: &str, todo: RecordTodo, reason: Reason, is_new: bool) -> PlannedEntry {
    PlannedEntry::Put { key: IdentityHash::known(key.to_owned()), todo, reason, is_new }
}

#[test]
fn what_is_gone_stays_or_waits_until_it_is_known_that_not_too_many_are() {
    let key = |text: &str| IdentityHash::known(text.to_owned());
    let there = entry("old", RecordTodo::Nothing, Has::Yes, Reason::OkApplied);
    let never = entry("never", RecordTodo::Write, Has::No, Reason::OkDue);
    let both = [there.clone(), never];
    let forget = PlannedEntry::Forget { key: key("never") };
    let (left, new) = (Reason::SegmentLeft, key("new"));
    for (wanted, first) in [
        (Wanted::Gone(left), None),
        // A key that changed: the new record is written, and the old one is as one that is gone.
        (Wanted::Record(&new, "d"), Some(put("new", RecordTodo::Write, Reason::OkDue, true))),
    ] {
        for (gone, todo) in [(Gone::Leave, RecordTodo::Nothing), (Gone::Clear, RecordTodo::Leaves)] {
            let expected: Vec<_> =
                first.clone().into_iter().chain([put("old", todo, left, false), forget.clone()]).collect();
            assert_eq!(plan_entries(&both, wanted, gone), expected, "{wanted:?} {gone:?}");
        }
    }
    // What cannot be made now stays as it is, whatever becomes of those who are gone; and what is told once is not told again.
    let missing = Reason::VarMissing;
    let unmade = plan_entries(std::slice::from_ref(&there), Wanted::Unmade(missing), Gone::Clear);
    assert_eq!(unmade, [put("old", RecordTodo::Nothing, missing, false)]);
    for todo in [RecordTodo::Leaves, RecordTodo::Clear] {
        assert_eq!(plan_entries(&[entry("old", todo, Has::Yes, left)], Wanted::Gone(left), Gone::Clear), []);
    }
}

#[test]
fn a_record_is_written_until_it_is_as_it_is_wanted() {
    let old = IdentityHash::known("old".to_owned());
    for (todo, has, reason, is_done) in [
        (RecordTodo::Nothing, Has::Yes, Reason::OkApplied, true),
        (RecordTodo::Nothing, Has::Yes, Reason::HumanEditWins, true),
        (RecordTodo::Write, Has::Maybe, Reason::OkDue, true),
        (RecordTodo::Nothing, Has::Yes, Reason::SegmentLeft, false),
        (RecordTodo::Nothing, Has::No, Reason::OkApplied, false),
        (RecordTodo::Leaves, Has::Yes, Reason::SegmentLeft, false),
        (RecordTodo::Clear, Has::Yes, Reason::SegmentLeft, false),
        (RecordTodo::Rejected, Has::No, Reason::FailRemote4xx, false),
    ] {
        let own = [entry("old", todo, has, reason)];
        let again = plan_entries(&own, Wanted::Record(&old, "d"), Gone::Leave);
        let expected = (!is_done).then(|| put("old", RecordTodo::Write, Reason::OkDue, false));
        assert_eq!(again, expected.into_iter().collect::<Vec<_>>(), "{todo:?} {has:?} {reason:?}");
        let changed = plan_entries(&own, Wanted::Record(&old, "other"), Gone::Leave);
        assert_eq!(changed, [put("old", RecordTodo::Write, Reason::OkDue, true)]);
    }
}
