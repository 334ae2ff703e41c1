//! How fast the engine decides: so many candidates enter a playbook through all gates, one after the other, on one core. Prints JSON.
//!
//! `cargo x bench decide` runs it. A thousand people take turns, in five zones, each with consent and two messages in the last two weeks;
//! where it is night they wait, and some are held out. Nothing is read, and nothing written. Seconds are those of CPU, as Linux accounts for this
//! thread: on one core that nobody else wants they are those of the clock.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Entered, Halts, Memberships, Person, Shared, Touch, Version, World, enter, gates};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::consent::{ConsentOrigin, ConsentState, ConsentStatus, Consents};
use model::duration::{Share, Window};
use model::playbook::{Action, Backfill, ExitRule, Holdout, Playbook, Reenter, Send, Step};
use model::policy::{
    Cap, CapUnit, Channel, GlobalHoldout, Localized, MessageClass, OnHit, OwnGuards, Policy, Purpose,
    QuietHours, RuleZone, Scope, Traits,
};
use model::profile::Profile;
use model::{
    BrandName, CapName, DeliveryId, DeliveryState, DestinationName, PlaybookName, ProfileNumber, PurposeName,
    QuietHoursName, SegmentName, StepId, TemplateName, Value,
};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

const PEOPLE: u32 = 1_000;
const ZONES: [&str; 5] =
    ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"];

struct Nobody;

impl Memberships for Nobody {
    fn contains(&self, _segment: &SegmentName, _profile: ProfileNumber) -> bool {
        false
    }
    fn contains_for(
        &self,
        _segment: &SegmentName,
        _profile: ProfileNumber,
        _at_least: SignedDuration,
    ) -> bool {
        false
    }
}

/// A person, with what is known.
struct Known {
    profile: Profile,
    consents: Consents,
    touches: Vec<Touch>,
}

impl Known {
    fn person(&self, number: ProfileNumber) -> Person<'_> {
        Person {
            number,
            id: &self.profile.id,
            profile: Some(&self.profile),
            consents: &self.consents,
            suppressions: &[],
            touches: &self.touches,
            shared: Shared::default(),
            standings: &[],
        }
    }
}

fn main() -> Result<(), Failure> {
    let items: u32 = std::env::args().nth(1).ok_or("how many candidates?")?.parse()?;
    let now: Timestamp = "2026-03-02T11:00:00Z".parse()?;
    let (zone, policy, halts) = (TimeZone::get("Europe/Berlin")?, policy()?, Halts::default());
    let world = World { project: "bench", zone: &zone, policy: &policy, memberships: &Nobody, halts: &halts };
    let (version, step) = (Version::new(playbook()?), StepId::known("hello"));
    let people: Vec<Known> = (0..PEOPLE).map(|n| known(n, now)).collect::<Result<_, Failure>>()?;

    let mut states: BTreeMap<&'static str, u64> = BTreeMap::new();
    let began = cpu_seconds()?;
    for (number, known) in (0..items).zip(people.iter().cycle()) {
        let person = known.person(ProfileNumber(number));
        match enter(&world, &version, &person, "run", BTreeMap::new(), now) {
            Entered::Enrolled(advanced) => {
                for row in &advanced.deliveries {
                    *states.entry(row.state.as_str()).or_default() += 1;
                }
            }
            Entered::Refused(row) => *states.entry(row.state.as_str()).or_default() += 1,
        }
    }
    let deciding = cpu_seconds()? - began;

    let mut asked = 0;
    let began = cpu_seconds()?;
    for (number, known) in (0..items).zip(people.iter().cycle()) {
        let records = gates(&world, &version, &known.person(ProfileNumber(number)), None, &step, now);
        asked += records.len();
    }
    let gates_alone = cpu_seconds()? - began;
    println!(
        "{}",
        json!({ "states": states, "seconds": deciding, "gates_asked": asked, "seconds_of_gates_alone": gates_alone })
    );
    Ok(())
}

fn cpu_seconds() -> Result<f64, Failure> {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = schedule.split_ascii_whitespace().next().ok_or("no time in it")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}

/// A cap a day and a cap a week, quiet nights, a global holdout.
fn policy() -> Result<Policy, Failure> {
    let name = PurposeName::known("offers");
    let purpose = Purpose {
        name: name.clone(),
        title: Localized::default(),
        class: MessageClass::Marketing,
        brand: BrandName::known("shop"),
    };
    let cap = |name: &'static str, max, per, on_hit| -> Result<Cap, Failure> {
        let scope = Scope { class: vec![MessageClass::Marketing], ..Scope::default() };
        let (unit, zone) = (CapUnit::Profile, RuleZone::Profile);
        Ok(Cap { name: CapName::known(name), scope, unit, max, per: Window::parse(per)?, zone, on_hit })
    };
    let nights = QuietHours {
        name: QuietHoursName::known("nights"),
        scope: Scope::default(),
        hours: Some(("20:00".parse()?, "08:00".parse()?)),
        days: Vec::new(),
        dates: Vec::new(),
        zone: RuleZone::Profile,
        filter: None,
    };
    let holdout = GlobalHoldout { share: Share::parse("5%")?, salt: "bench".to_owned(), rotate: None };
    Ok(Policy {
        purposes: [(name, purpose)].into(),
        caps: vec![cap("day", 1, "1 calendar day", OnHit::Defer)?, cap("week", 3, "7d", OnHit::Skip)?],
        quiet_hours: vec![nights],
        holdout: Some(holdout),
        ..Policy::default()
    })
}

/// One message, and a holdout.
fn playbook() -> Result<Playbook, Failure> {
    let send = Send {
        template: TemplateName::known("hello"),
        destination: DestinationName::known("mail"),
        purpose: PurposeName::known("offers"),
        with: BTreeMap::new(),
        expires: None,
        window: None,
    };
    Ok(Playbook {
        name: PlaybookName::known("hello"),
        title: "Hello".to_owned(),
        owner: "bench@shop.test".to_owned(),
        why: "Measured.".to_owned(),
        tags: Vec::new(),
        version: "v1".to_owned(),
        enter: SegmentName::known("everybody"),
        filter: None,
        backfill: Backfill::All,
        reenter: Reenter::Never,
        exit: ExitRule { on_leave: false, when: None },
        goal: None,
        purpose: PurposeName::known("offers"),
        priority: 50,
        holdout: Some(Holdout { share: Share::parse("10%")?, salt: "hello".to_owned() }),
        per_run: None,
        per_hour: None,
        guards: OwnGuards::default(),
        window: None,
        expires: SignedDuration::from_hours(72),
        contents: BTreeMap::new(),
        steps: vec![Step { id: StepId::known("hello"), condition: None, action: Action::Send(send) }],
    })
}

fn known(number: u32, now: Timestamp) -> Result<Known, Failure> {
    let zone = ZONES.iter().cycle().nth(usize::try_from(number)?).copied().unwrap_or_default();
    let columns = [
        ("email", format!("customer.{number}@example.test")),
        ("timezone", zone.to_owned()),
        ("first_name", "Ana".to_owned()),
    ];
    let profile = Profile {
        number: ProfileNumber(number),
        id: number.to_string(),
        attributes: columns.into_iter().map(|(name, text)| (name.to_owned(), Value::Text(text))).collect(),
        account: Arc::default(),
    };
    let offers = PurposeName::known("offers");
    let changed_at = now.checked_sub(SignedDuration::from_hours(24 * 60))?;
    let origin = ConsentOrigin::Warehouse;
    let granted = ConsentState { status: ConsentStatus::Granted, changed_at, origin };
    let touch = |days: i64| -> Result<Touch, Failure> {
        Ok(Touch {
            delivery: DeliveryId::known(format!("{number}.{days}")),
            at: now.checked_sub(SignedDuration::from_hours(24 * days))?,
            traits: Traits {
                channel: Channel::Email,
                class: MessageClass::Marketing,
                purpose: offers.clone(),
                brand: BrandName::known("shop"),
                playbook: PlaybookName::known("other"),
            },
            state: DeliveryState::Accepted,
            content: None,
        })
    };
    Ok(Known {
        profile,
        consents: Consents { states: vec![(Some(Channel::Email), Some(offers.clone()), granted)] },
        touches: vec![touch(3)?, touch(10)?],
    })
}
