//! Groups of recipients: whose mailboxes they are, as far as an address's domain tells. No name server is asked.

use std::collections::BTreeMap;

use crate::name::RecipientsName;
use crate::settings::Throttle;

/// The group of everybody who is in no other.
pub const OTHER: &str = "other";

/// Groups whose domains are known: those under which the big providers give mailboxes to anybody. Whoever has a domain of their own with one of
/// them is not found by it.
pub const KNOWN: &[(&str, &[&str])] = &[
    ("google", &["gmail.com", "googlemail.com"]),
    (
        "microsoft",
        &[
            "hotmail.be",
            "hotmail.ca",
            "hotmail.ch",
            "hotmail.cl",
            "hotmail.co.id",
            "hotmail.co.il",
            "hotmail.co.in",
            "hotmail.co.jp",
            "hotmail.co.kr",
            "hotmail.co.nz",
            "hotmail.co.th",
            "hotmail.co.uk",
            "hotmail.co.za",
            "hotmail.com",
            "hotmail.com.ar",
            "hotmail.com.au",
            "hotmail.com.br",
            "hotmail.com.hk",
            "hotmail.com.tr",
            "hotmail.com.tw",
            "hotmail.com.vn",
            "hotmail.cz",
            "hotmail.de",
            "hotmail.dk",
            "hotmail.es",
            "hotmail.fi",
            "hotmail.fr",
            "hotmail.gr",
            "hotmail.hu",
            "hotmail.it",
            "hotmail.lt",
            "hotmail.lv",
            "hotmail.my",
            "hotmail.nl",
            "hotmail.no",
            "hotmail.ph",
            "hotmail.rs",
            "hotmail.se",
            "hotmail.sg",
            "hotmail.sk",
            "live.at",
            "live.be",
            "live.ca",
            "live.cl",
            "live.cn",
            "live.co.kr",
            "live.co.uk",
            "live.co.za",
            "live.com",
            "live.com.ar",
            "live.com.au",
            "live.com.mx",
            "live.com.my",
            "live.com.ph",
            "live.com.pt",
            "live.com.sg",
            "live.de",
            "live.dk",
            "live.fi",
            "live.fr",
            "live.hk",
            "live.ie",
            "live.in",
            "live.it",
            "live.jp",
            "live.nl",
            "live.no",
            "live.ru",
            "live.se",
            "msn.com",
            "outlook.at",
            "outlook.be",
            "outlook.cl",
            "outlook.co.id",
            "outlook.co.il",
            "outlook.co.th",
            "outlook.com",
            "outlook.com.ar",
            "outlook.com.au",
            "outlook.com.br",
            "outlook.com.gr",
            "outlook.com.pe",
            "outlook.com.tr",
            "outlook.com.vn",
            "outlook.cz",
            "outlook.de",
            "outlook.dk",
            "outlook.es",
            "outlook.fr",
            "outlook.hu",
            "outlook.ie",
            "outlook.in",
            "outlook.it",
            "outlook.jp",
            "outlook.kr",
            "outlook.lv",
            "outlook.my",
            "outlook.ph",
            "outlook.pt",
            "outlook.sa",
            "outlook.sg",
            "outlook.sk",
            "passport.com",
            "windowslive.com",
        ],
    ),
    // Not yahoo.co.jp, which is another company's.
    (
        "yahoo",
        &[
            "aim.com",
            "aol.co.uk",
            "aol.com",
            "aol.de",
            "aol.fr",
            "myyahoo.com",
            "rocketmail.com",
            "yahoo.at",
            "yahoo.be",
            "yahoo.ca",
            "yahoo.ch",
            "yahoo.co.id",
            "yahoo.co.il",
            "yahoo.co.in",
            "yahoo.co.kr",
            "yahoo.co.nz",
            "yahoo.co.th",
            "yahoo.co.uk",
            "yahoo.co.za",
            "yahoo.com",
            "yahoo.com.ar",
            "yahoo.com.au",
            "yahoo.com.br",
            "yahoo.com.co",
            "yahoo.com.hk",
            "yahoo.com.mx",
            "yahoo.com.my",
            "yahoo.com.pe",
            "yahoo.com.ph",
            "yahoo.com.sg",
            "yahoo.com.tr",
            "yahoo.com.tw",
            "yahoo.com.ve",
            "yahoo.com.vn",
            "yahoo.cz",
            "yahoo.de",
            "yahoo.dk",
            "yahoo.es",
            "yahoo.fi",
            "yahoo.fr",
            "yahoo.gr",
            "yahoo.hu",
            "yahoo.ie",
            "yahoo.in",
            "yahoo.it",
            "yahoo.nl",
            "yahoo.no",
            "yahoo.pl",
            "yahoo.pt",
            "yahoo.ro",
            "yahoo.se",
            "ymail.com",
        ],
    ),
    ("apple", &["icloud.com", "mac.com", "me.com"]),
];

/// The domains of a group that is known; `None`: it is not.
pub fn known_domains(group: &str) -> Option<&'static [&'static str]> {
    KNOWN.iter().find(|(name, _)| *name == group).map(|(_, domains)| *domains)
}

/// How fast groups of recipients may be written to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipients {
    /// Each group's rate; [`OTHER`] is everybody who is in no other.
    pub rates: BTreeMap<RecipientsName, Throttle>,
    /// Domains in lower-case ASCII, each with its group.
    pub domains: BTreeMap<String, RecipientsName>,
}

impl Recipients {
    /// The group of an address with this domain (in lower-case ASCII), if it has a rate.
    pub fn group_of(&self, domain: &str) -> Option<&RecipientsName> {
        let group = self.domains.get(domain).map_or(OTHER, RecipientsName::as_str);
        self.rates.get_key_value(group).map(|(group, _)| group)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::address::EmailAddress;
    use crate::name::is_name;

    #[test]
    fn what_is_known_is_written_as_addresses_are_and_is_in_one_group() {
        let mut seen = BTreeSet::new();
        for (group, domains) in KNOWN {
            assert!(is_name(group) && *group != OTHER);
            for domain in *domains {
                let address = EmailAddress::parse(&format!("a@{domain}")).unwrap();
                assert_eq!(address.domain(), *domain);
                assert!(seen.insert(domain), "{domain} is there twice");
            }
        }
    }

    #[test]
    fn who_is_in_no_group_is_among_the_others_if_they_have_a_rate() {
        let throttle = Throttle { count: 1, per: jiff::SignedDuration::from_secs(1), burst: 1 };
        let group = RecipientsName::known;
        let mut recipients = Recipients::default();
        recipients.domains.insert("gmail.com".to_owned(), group("google"));
        assert_eq!(recipients.group_of("gmail.com"), None);
        recipients.rates.insert(group("google"), throttle);
        assert_eq!(recipients.group_of("gmail.com"), Some(&group("google")));
        assert_eq!(recipients.group_of("acme.test"), None);
        recipients.rates.insert(group(OTHER), throttle);
        assert_eq!(recipients.group_of("acme.test"), Some(&group(OTHER)));
    }
}
