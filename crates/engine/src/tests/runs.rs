//! Which runs of a segment are believed, and when an attempt is repeated.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use model::duration::Share;
use model::segment::{Expect, Quantity};
use model::{DeliveryId, FreshName, Reason};
use proptest::prelude::*;

use super::made::{at, span};
use crate::{Backoff, RunSeen, judge_run, retry_at};

fn share(text: &str) -> Option<Quantity> {
    Some(Quantity::Share(Share::parse(text).unwrap()))
}

fn seen(rows: u64, previous: Option<u64>, entered: u64, left: u64) -> RunSeen {
    RunSeen { rows, profiles: 1_000, previous, entered, left, ..RunSeen::default() }
}

#[test]
fn what_breaks_an_expectation_is_held() {
    let count = |count| Some(Quantity::Count(count));
    let none = Expect::default;
    for (name, expect, seen, held) in [
        ("nothing expected", none(), seen(5, Some(100), 5, 100), None),
        ("first run is empty", none(), seen(0, None, 0, 0), None),
        ("empty before and now", none(), seen(0, Some(0), 0, 0), None),
        ("suddenly empty", none(), seen(0, Some(1), 0, 1), Some(Reason::SegmentEmpty)),
        ("may be empty", Expect { rows_min: count(0), ..none() }, seen(0, Some(9), 0, 9), None),
        (
            "must have one",
            Expect { rows_min: count(1), ..none() },
            seen(0, None, 0, 0),
            Some(Reason::SegmentAnomaly),
        ),
        (
            "empty and must not be",
            Expect { rows_min: count(1), ..none() },
            seen(0, Some(9), 0, 9),
            Some(Reason::SegmentEmpty),
        ),
        ("just enough", Expect { rows_min: share("10%"), ..none() }, seen(100, None, 100, 0), None),
        (
            "too few",
            Expect { rows_min: share("10%"), ..none() },
            seen(99, None, 99, 0),
            Some(Reason::SegmentAnomaly),
        ),
        ("not too many", Expect { rows_max: share("20%"), ..none() }, seen(200, None, 200, 0), None),
        (
            "too many",
            Expect { rows_max: share("20%"), ..none() },
            seen(201, None, 201, 0),
            Some(Reason::SegmentAnomaly),
        ),
        ("changed enough", Expect { change_max: share("30%"), ..none() }, seen(100, Some(100), 15, 15), None),
        (
            "changed too much",
            Expect { change_max: share("30%"), ..none() },
            seen(101, Some(100), 16, 15),
            Some(Reason::SegmentAnomaly),
        ),
        ("changed, first run", Expect { change_max: share("30%"), ..none() }, seen(100, None, 100, 0), None),
        (
            "changed from nobody",
            Expect { change_max: share("30%"), ..none() },
            seen(100, Some(0), 100, 0),
            None,
        ),
        (
            "changed by a count",
            Expect { change_max: count(5), ..none() },
            seen(6, Some(0), 6, 0),
            Some(Reason::SegmentAnomaly),
        ),
    ] {
        assert_eq!(judge_run(&expect, &seen).err().map(|refusal| refusal.reason), held, "{name}");
    }
}

#[test]
fn all_that_is_broken_is_told() {
    let expect = Expect {
        rows_max: Some(Quantity::Count(1)),
        not_null: vec!["last_seen".to_owned()],
        ..Expect::default()
    };
    let nulls = BTreeMap::from([("last_seen".to_owned(), 3), ("unasked".to_owned(), 9)]);
    let stale = vec![(FreshName::known("orders"), "orders is from yesterday".to_owned())];
    let refusal = judge_run(&expect, &RunSeen { nulls, stale, ..seen(2, None, 2, 0) }).unwrap_err();
    assert_eq!(refusal.reason, Reason::SegmentStale);
    assert_eq!(refusal.saw, "orders is from yesterday; 2 members, `rows.max` is 1; 3 rows without last_seen");
}

#[test]
fn pauses_grow_as_they_should() {
    let pauses = |backoff: Backoff| -> Vec<i64> { (0..=12).map(|n| backoff.pause(n).as_secs()).collect() };
    let (hours_4, hours_12) = (14_400, 43_200);
    assert_eq!(pauses(Backoff::Smtp4xx)[..7], [600, 600, 900, 3_600, hours_4, hours_12, hours_12]);
    assert_eq!(pauses(Backoff::Connect), [2, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
    assert_eq!(Backoff::Connect.pause(u32::MAX).as_secs(), 900);
    assert_eq!(Backoff::Smtp4xx.pause(u32::MAX).as_secs(), hours_12);
}

#[test]
fn the_providers_wish_is_a_floor_and_not_a_ceiling() {
    let (id, now) = (DeliveryId::known("d"), at("2026-03-02T11:00:00Z"));
    let retry = |after| retry_at(&id, 1, after, Backoff::Smtp4xx, now);
    assert_eq!(retry(Some(span("1h"))), at("2026-03-02T12:00:00Z"));
    assert_eq!(retry(Some(span("1s"))), retry(None));
}

proptest! {
    #[test]
    fn jitter_lies_between_half_and_all_and_is_always_the_same(id in "[a-z2-7]{32}", attempt in 1u32..40, kind in 0usize..2) {
        let backoff = [Backoff::Smtp4xx, Backoff::Connect][kind];
        let (id, now) = (DeliveryId::known(id), at("2026-03-02T11:00:00Z"));
        let first = retry_at(&id, attempt, None, backoff, now);
        prop_assert_eq!(first, retry_at(&id, attempt, None, backoff, now));
        let (waited, pause) = (first.duration_since(now), backoff.pause(attempt));
        prop_assert!(waited * 2 >= pause && waited <= pause && waited > SignedDuration::ZERO, "{waited:?} of {pause:?}");
    }
}
