//! Civil time across changes of clock, against a scan of every minute that only reads the wall clock.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use model::playbook::SendWindow;
use model::policy::QuietHours;
use proptest::prelude::*;

use super::made::*;
use crate::time::{next_allowed, quiet_until, window_opens_at};

/// Zones that change by an hour, by half of one, at midnight, over midnight, twice a year, by a whole day, or not at all.
const ZONES: [&str; 46] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Africa/Johannesburg",
    "America/Adak",
    "America/Asuncion",
    "America/Bogota",
    "America/Caracas",
    "America/Chicago",
    "America/Denver",
    "America/Goose_Bay",
    "America/Havana",
    "America/Los_Angeles",
    "America/Miquelon",
    "America/New_York",
    "America/Nuuk",
    "America/Phoenix",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Damascus",
    "Asia/Gaza",
    "Asia/Jerusalem",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Australia/Eucla",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Easter",
    "Pacific/Kiritimati",
    "UTC",
];

/// Every minute of some days, with what the wall clock shows.
struct Scan {
    minutes: Vec<(Timestamp, DateTime)>,
}

impl Scan {
    fn around(middle: Timestamp, before: i64, after: i64, zone: &TimeZone) -> Self {
        let middle = middle.as_second().div_euclid(60) * 60;
        let minutes = (-before * 1_440..after * 1_440)
            .map(|minute| {
                let at = Timestamp::from_second(middle + minute * 60).unwrap();
                (at, zone.to_datetime(at))
            })
            .collect();
        Self { minutes }
    }
    /// The first minute at which the wall clock shows a time, or one after it.
    fn first(&self, civil: DateTime) -> Timestamp {
        let found = self.minutes.iter().find(|(_, wall)| *wall >= civil);
        found.unwrap_or(self.minutes.last().unwrap()).0
    }
    /// The last minute at which the wall clock shows a time, or the first after it where it never does.
    fn last(&self, civil: DateTime) -> Timestamp {
        if let Some((at, _)) = self.minutes.iter().rev().find(|(_, wall)| *wall == civil) {
            return *at;
        }
        let before = self.minutes.iter().rposition(|(_, wall)| *wall < civil);
        self.minutes[before.map_or(0, |position| position + 1).min(self.minutes.len() - 1)].0
    }
    fn dates(&self) -> Vec<Date> {
        let (first, last) = (self.minutes[0].1.date(), self.minutes.last().unwrap().1.date());
        let mut dates = vec![first];
        while let Some(next) =
            dates.last().unwrap().checked_add(Span::new().days(1)).ok().filter(|next| *next <= last)
        {
            dates.push(next);
        }
        dates
    }
    fn periods(
        &self,
        hours: Option<(Time, Time)>,
        on: &dyn Fn(Date) -> bool,
        ends: [bool; 2],
    ) -> Vec<(Timestamp, Timestamp)> {
        let (from, to) = hours.unwrap_or((Time::midnight(), Time::midnight()));
        let pick = |later: bool, civil: DateTime| if later { self.last(civil) } else { self.first(civil) };
        let dates = self.dates();
        let whole = &dates[1..dates.len() - 2];
        whole
            .iter()
            .filter(|date| on(**date))
            .map(|date| {
                let end = if to > from { *date } else { date.checked_add(Span::new().days(1)).unwrap() };
                (pick(ends[0], date.to_datetime(from)), pick(ends[1], end.to_datetime(to)))
            })
            .collect()
    }
}

fn transitions(zone: &TimeZone, year: i16) -> Vec<Timestamp> {
    let from = Date::new(year, 1, 1).unwrap().to_zoned(TimeZone::UTC).unwrap().timestamp();
    let until = Date::new(year + 1, 1, 1).unwrap().to_zoned(TimeZone::UTC).unwrap().timestamp();
    zone.following(from).map(|change| change.timestamp()).take_while(|change| *change < until).collect()
}

/// Rules that touch a change of clock in every way: over it, in it, ending in it, all day, on some days, on a date.
fn rules(date: Date) -> Vec<QuietHours> {
    let mut rules: Vec<QuietHours> = [
        ("21:00", "08:00"),
        ("02:30", "05:00"),
        ("01:00", "02:30"),
        ("23:30", "00:15"),
        ("00:00", "00:30"),
        ("02:10", "02:20"),
        ("01:45", "01:40"),
        ("00:00", "00:00"),
    ]
    .map(|(from, to)| nights(from, to))
    .into();
    let mut sundays = nights("20:00", "09:30");
    sundays.days = vec![Weekday::Sunday, Weekday::Wednesday];
    rules.push(sundays.clone());
    sundays.hours = None;
    rules.push(sundays.clone());
    sundays.days = vec![];
    sundays.dates = vec![date];
    rules.push(sundays);
    rules
}

fn on(rule: &QuietHours, date: Date) -> bool {
    rule.days.is_empty() && rule.dates.is_empty()
        || rule.days.contains(&date.weekday())
        || rule.dates.contains(&date)
}

#[test]
fn quiet_hours_are_those_of_the_wall_clock_at_every_change_of_46_zones() {
    let mut changes = 0;
    for (number, name) in ZONES.iter().enumerate() {
        let zone = TimeZone::get(name).unwrap();
        let year = 2008 + i16::try_from(number * 7 % 28).unwrap();
        let mut around = transitions(&zone, year);
        around.truncate(4);
        changes += around.len();
        around.push(at("2026-06-10T12:00:00Z"));
        for middle in around {
            let scan = Scan::around(middle, 5, 5, &zone);
            for rule in rules(zone.to_datetime(middle).date()) {
                let periods = scan.periods(rule.hours, &|date| on(&rule, date), [false, true]);
                for minute in (-1_500..1_500).step_by(13) {
                    let now = middle.checked_add(SignedDuration::from_mins(minute)).unwrap();
                    let wanted = periods
                        .iter()
                        .filter(|(begin, end)| *begin <= now && now < *end)
                        .map(|(_, end)| *end)
                        .max();
                    assert_eq!(quiet_until(&rule, now, &zone), wanted, "{name} {now} {rule:?}");
                }
            }
        }
    }
    assert!(changes > 40, "{changes}");
}

#[test]
fn a_send_window_never_opens_outside_the_wall_clocks_hours_in_46_zones() {
    for (number, name) in ZONES.iter().enumerate() {
        let zone = TimeZone::get(name).unwrap();
        let year = 2008 + i16::try_from(number * 5 % 28).unwrap();
        for middle in transitions(&zone, year).into_iter().take(3).chain([at("2026-06-10T12:00:00Z")]) {
            let scan = Scan::around(middle, 5, 16, &zone);
            for (from, to) in [
                ("09:00", "17:00"),
                ("01:30", "03:30"),
                ("22:00", "02:15"),
                ("02:10", "02:50"),
                ("00:00", "01:00"),
            ] {
                for days in [vec![], vec![Weekday::Sunday], vec![Weekday::Tuesday, Weekday::Thursday]] {
                    let window = SendWindow { days: days.clone(), ..window(from, to) };
                    let allowed = |date: Date| days.is_empty() || days.contains(&date.weekday());
                    let periods = scan.periods(window.hours, &allowed, [true, false]);
                    for minute in (-1_500..1_500).step_by(37) {
                        let now = middle.checked_add(SignedDuration::from_mins(minute)).unwrap();
                        let open = periods.iter().filter(|(begin, end)| begin < end && now < *end);
                        let wanted = open.map(|(begin, _)| (*begin).max(now)).min();
                        let found = window_opens_at(&window, now, &zone);
                        assert_eq!(found, wanted, "{name} {now} {window:?}");
                        let wall = zone.to_datetime(found.unwrap()).time();
                        let (from, to) = window.hours.unwrap();
                        let inside =
                            if to > from { from <= wall && wall < to } else { from <= wall || wall < to };
                        assert!(
                            inside || wall_is_after_a_gap(&scan, found.unwrap()),
                            "{name} {wall} {window:?}"
                        );
                    }
                }
            }
        }
    }
}

fn wall_is_after_a_gap(scan: &Scan, at: Timestamp) -> bool {
    let position = scan.minutes.iter().position(|(minute, _)| *minute == at).unwrap();
    let (before, after) = (scan.minutes[position - 1].1, scan.minutes[position].1);
    before.duration_until(after) > SignedDuration::from_mins(1)
}

#[test]
fn known_changes_of_clock() {
    let until = |zone: &str, rule: &QuietHours, now: &str| {
        quiet_until(rule, at(now), &TimeZone::get(zone).unwrap()).map(|end| end.to_string())
    };
    let end = |text: &str| Some(text.to_owned());
    // Berlin springs at 2026-03-29T01:00Z from 02:00 to 03:00, and falls back at 2026-10-25T01:00Z from 03:00 to 02:00.
    assert_eq!(
        until("Europe/Berlin", &nights("21:00", "08:00"), "2026-03-28T21:00:00Z"),
        end("2026-03-29T06:00:00Z")
    );
    assert_eq!(
        until("Europe/Berlin", &nights("21:00", "08:00"), "2026-10-24T21:00:00Z"),
        end("2026-10-25T07:00:00Z")
    );
    assert_eq!(until("Europe/Berlin", &nights("02:30", "05:00"), "2026-03-29T00:59:00Z"), None);
    assert_eq!(
        until("Europe/Berlin", &nights("02:30", "05:00"), "2026-03-29T01:00:00Z"),
        end("2026-03-29T03:00:00Z")
    );
    assert_eq!(
        until("Europe/Berlin", &nights("22:00", "02:30"), "2026-10-25T00:45:00Z"),
        end("2026-10-25T01:30:00Z")
    );
    // Lord Howe moves by half an hour: 2026-04-04T15:00Z from 02:00 to 01:30.
    let howe = "Australia/Lord_Howe";
    assert_eq!(until(howe, &nights("23:00", "01:45"), "2026-04-04T14:50:00Z"), end("2026-04-04T15:15:00Z"));
    // Apia had no 30 December 2011: 29 December is followed by the 31st.
    let mut all_day = nights("00:00", "00:00");
    all_day.hours = None;
    all_day.days = vec![Weekday::Thursday];
    assert_eq!(until("Pacific/Apia", &all_day, "2011-12-30T09:00:00Z"), end("2011-12-30T10:00:00Z"));
}

#[test]
fn a_period_belongs_to_the_day_on_which_it_begins() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let mut fridays = nights("22:00", "06:00");
    fridays.days = vec![Weekday::Friday];
    let quiet = |now: &str| quiet_until(&fridays, at(now), &zone).is_some();
    assert!(!quiet("2026-03-05T22:00:00Z"), "Thursday night");
    assert!(!quiet("2026-03-06T04:00:00Z"), "Friday morning");
    assert!(quiet("2026-03-06T21:00:00Z") && quiet("2026-03-07T04:59:59Z"), "Friday night, Saturday morning");
    assert!(!quiet("2026-03-07T05:00:00Z") && !quiet("2026-03-07T22:00:00Z"), "Saturday");
}

#[test]
fn what_is_quiet_without_a_break_is_never_allowed() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let (day, night) = (nights("08:00", "21:00"), nights("21:00", "08:00"));
    let (now, limit) = (at("2026-03-05T22:00:00Z"), at("2026-04-05T22:00:00Z"));
    assert_eq!(next_allowed(&[(&day, &zone), (&night, &zone)], None, now, limit), None);
    assert_eq!(next_allowed(&[(&day, &zone), (&night, &zone)], None, now, Timestamp::MAX), None);
    let never = SendWindow { days: vec![Weekday::Friday], ..window("09:00", "10:00") };
    assert_eq!(next_allowed(&[(&day, &zone)], Some((&never, &zone)), now, limit), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_next_allowed_minute_is_the_first_that_a_scan_finds(
        zone in 0usize..ZONES.len(),
        second in 1_200_000_000i64..2_000_000_000,
        quiet in prop::collection::vec((0i8..24, 0i8..4, 0i8..24, 0i8..4, 0u8..128), 0..3),
        open in prop::option::of((0i8..24, 0i8..24, 0u8..128)),
    ) {
        let zone = TimeZone::get(ZONES[zone]).unwrap();
        let now = Timestamp::from_second(second.div_euclid(60) * 60).unwrap();
        let time = |hour: i8, quarter: i8| Time::new(hour, quarter * 15, 0, 0).unwrap();
        let days = |mask: u8| -> Vec<Weekday> {
            (0..7).filter(|day| mask & (1 << day) != 0).map(|day| Weekday::from_monday_zero_offset(day).unwrap()).collect()
        };
        let rules: Vec<QuietHours> = quiet.iter().map(|(from, q, to, r, mask)| QuietHours {
            hours: Some((time(*from, *q), time(*to, *r))),
            days: days(*mask),
            ..nights("00:00", "00:00")
        }).collect();
        let window = open.map(|(from, to, mask)| SendWindow { days: days(mask), hours: Some((time(from, 0), time(to, 0))) });
        let limit = now.checked_add(SignedDuration::from_hours(4 * 24)).unwrap();
        let scan = Scan::around(now, 5, 8, &zone);
        let forbidden: Vec<(Timestamp, Timestamp)> =
            rules.iter().flat_map(|rule| scan.periods(rule.hours, &|date| on(rule, date), [false, true])).collect();
        let opens = window.as_ref().map(|window| {
            scan.periods(window.hours, &|date| window.days.is_empty() || window.days.contains(&date.weekday()), [true, false])
        });
        let lies_in = |periods: &[(Timestamp, Timestamp)], at: Timestamp| periods.iter().any(|(begin, end)| *begin <= at && at < *end);
        let wanted = scan.minutes.iter().map(|(at, _)| *at).find(|at| {
            *at >= now && *at < limit && !lies_in(&forbidden, *at) && opens.as_ref().is_none_or(|opens| lies_in(opens, *at))
        });
        let quiet: Vec<(&QuietHours, &TimeZone)> = rules.iter().map(|rule| (rule, &zone)).collect();
        prop_assert_eq!(next_allowed(&quiet, window.as_ref().map(|window| (window, &zone)), now, limit), wanted);
    }
}
