//! Who a customer might be: a place, a name, an address, consents. All made up, all derived from the customer's number.

use anyhow::{Context as _, Result};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use model::id::bucket;

use super::purchase::Purchase;

/// Where somebody lives, and so what they read.
#[derive(Debug)]
pub(crate) struct Place {
    /// IANA zone.
    pub(crate) zone: &'static str,
    /// BCP 47.
    pub(crate) locale: &'static str,
    /// ISO 3166.
    pub(crate) country: &'static str,
    /// Names that are common there.
    names: &'static [&'static str],
    /// How many of a hundred live there.
    percent: u64,
}

macro_rules! places {
    ($($percent:literal $zone:literal $locale:literal $country:literal $names:expr;)*) => {
        &[$(Place { zone: $zone, locale: $locale, country: $country, names: $names, percent: $percent },)*]
    };
}

const AMERICAN: &[&str] = &["Mary", "James", "Linda", "Robert", "Susan", "David", "Karen", "Michael"];
const BRITISH: &[&str] = &["Emma", "Oliver", "Sophie", "Harry", "Zoë", "George"];
const GERMAN: &[&str] = &["Jürgen", "Käthe", "Björn", "Anna", "Uwe", "Sabine"];
const INDIAN: &[&str] = &["Ananya", "Rohan", "Priya", "Arjun"];
const JAPANESE: &[&str] = &["由美", "健", "さくら"];
const BRAZILIAN: &[&str] = &["João", "Conceição", "Luís"];
const AUSTRALIAN: &[&str] = &["Matilda", "Jack", "Ruby"];

/// Zones east and west, with half an hour, with and without summer time, north and south.
const PLACES: &[Place] = places! {
    30 "America/New_York"    "en-US" "US" AMERICAN;
    14 "America/Los_Angeles" "en-US" "US" AMERICAN;
     4 "America/Phoenix"     "en-US" "US" AMERICAN;
    16 "Europe/London"       "en-GB" "GB" BRITISH;
    20 "Europe/Berlin"       "de-DE" "DE" GERMAN;
     5 "Asia/Kolkata"        "en-IN" "IN" INDIAN;
     3 "Asia/Tokyo"          "ja-JP" "JP" JAPANESE;
     3 "America/Sao_Paulo"   "pt-BR" "BR" BRAZILIAN;
     5 "Australia/Sydney"    "en-AU" "AU" AUSTRALIAN;
};

/// What is in the column in the place of an address, at times. None of it can be one.
const BROKEN: &[&str] =
    &["none", "mary@", "@example.test", "a b@example.test", "two@@example.test", "jack@example"];

/// A made-up person with the times of real purchases.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) place: &'static Place,
    pub(crate) email: Option<String>,
    pub(crate) first_name: Option<&'static str>,
    /// The first purchase, once one is known.
    since: Option<Timestamp>,
}

/// A row of `consents`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Consent {
    pub(crate) purpose: &'static str,
    pub(crate) status: &'static str,
    pub(crate) changed_at: Timestamp,
    pub(crate) source: &'static str,
}

/// An even share of a hundred, by what is asked and about whom.
fn percent(what: &str, customer: &str) -> u64 {
    below(100, what, customer)
}

fn below(end: u64, what: &str, customer: &str) -> u64 {
    bucket(&["cdnow", what, customer]) % end
}

/// One of several, evenly.
fn one_of<T: Copy>(all: &[T], what: &str, customer: &str) -> Option<T> {
    let at = below(u64::try_from(all.len()).ok()?.max(1), what, customer);
    all.get(usize::try_from(at).ok()?).copied()
}

impl Person {
    /// The person behind a customer's number.
    pub(crate) fn made_up(customer: &str) -> Self {
        let mut left = percent("place", customer);
        let place = PLACES.iter().find(|place| {
            let here = left < place.percent;
            left = left.saturating_sub(place.percent);
            here
        });
        let place = place.unwrap_or(&PLACES[0]);
        let email = match percent("address", customer) {
            0..4 => None,
            4 => one_of(BROKEN, "broken", customer).map(str::to_owned),
            _ => Some(format!("customer.{customer}@example.test")),
        };
        let named = 8 <= percent("named", customer);
        let first_name = one_of(place.names, "name", customer).filter(|_| named);
        Self { place, email, first_name, since: None }
    }

    /// When a purchase was made: the file knows the day; it was at noon or in the two hours after, where the person lives.
    pub(crate) fn time_of(&self, purchase: &Purchase, position: usize) -> Result<Timestamp> {
        let minutes = below(120, &format!("minute.{position}"), &purchase.customer);
        let zone =
            TimeZone::get(self.place.zone).with_context(|| format!("no zone `{}`", self.place.zone))?;
        let noon = purchase.day.to_datetime(Time::constant(12, 0, 0, 0));
        let at = noon.checked_add(i64::try_from(minutes)?.minutes())?;
        Ok(at.to_zoned(zone)?.timestamp())
    }

    /// Notes a purchase.
    pub(crate) fn bought(&mut self, at: Timestamp) {
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
    }

    /// What was said at the first purchase, or taken back within 300 days of it. Not everybody was asked.
    pub(crate) fn consents(&self, customer: &str) -> Vec<Consent> {
        let Some(since) = self.since else { return Vec::new() };
        let days = i64::try_from(1 + below(300, "days", customer)).unwrap_or(1);
        let later = since + (24 * days).hours();
        let granted = |purpose| Consent { purpose, status: "granted", changed_at: since, source: "checkout" };
        let withdrawn =
            |purpose| Consent { purpose, status: "withdrawn", changed_at: later, source: "account" };
        let offers = match percent("offers", customer) {
            0..70 => Some(granted("offers")),
            70..79 => Some(withdrawn("offers")),
            _ => None,
        };
        let tips = match percent("tips", customer) {
            0..6 => Some(withdrawn("tips")),
            6..40 => Some(granted("tips")),
            _ => None,
        };
        offers.into_iter().chain(tips).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::Date;
    use model::EmailAddress;

    use super::*;

    fn people() -> Vec<(String, Person)> {
        (1..=10_000)
            .map(|number| {
                let customer = format!("{number:05}");
                let mut person = Person::made_up(&customer);
                person.bought("1997-02-01T12:00:00Z".parse().unwrap());
                (customer, person)
            })
            .collect()
    }

    #[test]
    fn shares_are_as_the_readme_says() {
        let people = people();
        let share =
            |holds: &dyn Fn(&(String, Person)) -> bool| people.iter().filter(|one| holds(one)).count();
        let missing = share(&|(_, person)| person.email.is_none());
        let broken = share(&|(_, person)| {
            person.email.as_deref().is_some_and(|email| EmailAddress::parse(email).is_err())
        });
        let granted = share(&|(id, person)| {
            person
                .consents(id)
                .iter()
                .any(|consent| consent.purpose == "offers" && consent.status == "granted")
        });
        assert!((350..=450).contains(&missing), "{missing}");
        assert!((70..=130).contains(&broken), "{broken}");
        assert!((6_800..=7_200).contains(&granted), "{granted}");
        for place in PLACES {
            let here = u64::try_from(share(&|(_, person)| person.place.zone == place.zone)).unwrap();
            assert!(here.abs_diff(place.percent * 100) < 150, "{}: {here}", place.zone);
        }
    }

    #[test]
    fn percentages_of_places_add_up() {
        assert_eq!(PLACES.iter().map(|place| place.percent).sum::<u64>(), 100);
    }

    #[test]
    fn a_purchase_is_made_after_noon_where_the_customer_lives() {
        for (customer, person) in people().into_iter().take(200) {
            let purchase = Purchase { customer, day: Date::constant(1997, 7, 4), cds: 1, total: 10.0 };
            let at =
                person.time_of(&purchase, 3).unwrap().to_zoned(TimeZone::get(person.place.zone).unwrap());
            assert_eq!(at.date(), purchase.day);
            assert!((12..14).contains(&at.hour()), "{at}");
        }
    }

    #[test]
    fn nothing_is_said_before_the_first_purchase_or_long_after() {
        for (customer, person) in people() {
            for consent in person.consents(&customer) {
                let since = person.since.unwrap();
                assert!(since <= consent.changed_at && consent.changed_at <= since + (301 * 24).hours());
            }
        }
    }
}
