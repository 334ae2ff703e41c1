//! Rates of sending domains and of groups of recipients.

use jiff::SignedDuration;
use model::settings::Throttle;
use model::{BrandName, DestinationName};

use super::made::{Made, read};

const TRACK: &str = "    track: {opens: false, clicks: false}";
const THROTTLE: &str = "throttle: {rate: 200/s, burst: 50}";

fn throttle(count: u32, burst: u32) -> Throttle {
    Throttle { count, per: SignedDuration::from_secs(1), burst }
}

#[test]
fn groups_are_found_by_their_domains_and_a_known_one_may_have_more() {
    let made = Made::good();
    let groups = "recipients: {google: {rate: 20/s, burst: 5, domains: [Acme.test]}, gmx: {rate: 10/s, domains: [gmx.de, m\u{fc}nchen.test]}, \
                  other: {rate: 3/s}}";
    made.replace("drumbeat.yml", THROTTLE, groups);
    let settings = made.load().unwrap_or_else(|wrong| panic!("{wrong}")).project.settings;
    let mail = &settings.destinations[&DestinationName::known("mail")];
    assert_eq!(mail.throttle, None);
    for (domain, group, rate) in [
        ("gmail.com", "google", throttle(20, 5)),
        ("acme.test", "google", throttle(20, 5)),
        ("gmx.de", "gmx", throttle(10, 10)),
        ("xn--mnchen-3ya.test", "gmx", throttle(10, 10)),
        ("hotmail.com", "other", throttle(3, 3)),
    ] {
        let found = mail.recipients.group_of(domain).unwrap();
        assert_eq!((found.as_str(), mail.recipients.rates[found]), (group, rate), "{domain}");
    }
    assert!(!mail.settings.0.contains_key("recipients"), "that is no matter of the connector");
}

#[test]
fn brands_of_one_domain_have_one_rate() {
    let made = Made::good();
    let other =
        "  shop: {title: Shop, from: shop@ACME.test, postal_address: Berlin, public_url: https://shop.test/}";
    made.replace("drumbeat.yml", TRACK, "    throttle: {rate: 500/s, burst: 20}");
    made.replace("drumbeat.yml", "destinations:\n", &format!("{other}\ndestinations:\n"));
    // Whose brand a purpose is of is not clear any more; that is another matter.
    let brands = read(made.dir.path()).project.unwrap().settings.brands;
    let acme = &brands[&BrandName::known("acme")];
    assert_eq!((acme.domain.as_str(), acme.throttle), ("acme.test", Some(throttle(500, 20))));
    assert_eq!(brands[&BrandName::known("shop")].throttle, acme.throttle);

    made.replace("drumbeat.yml", "postal_address: Berlin", "throttle: {rate: 400/s}, postal_address: Berlin");
    let wrong = made.wrong();
    let said = "error[E0108]: brand `acme` says otherwise how fast `acme.test` may be used";
    assert!(wrong.contains(said), "{wrong}");
    made.replace("drumbeat.yml", "throttle: {rate: 400/s}", "throttle: {rate: 500/s, burst: 20}");
    assert!(!made.wrong().contains("says otherwise"));
}

#[test]
fn only_mail_has_groups_of_recipients() {
    let made = Made::good();
    made.replace(
        "drumbeat.yml",
        "destinations:\n",
        "destinations:\n  phone: {connector: text, recipients: {other: {rate: 1/s}}}\n",
    );
    let wrong = made.wrong();
    assert!(wrong.contains("error[E0108]: `recipients` is for destinations of mail"), "{wrong}");
}
