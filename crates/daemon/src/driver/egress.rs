//! Where messages may go: the rule of `deliver`. Decided by name, without a look-up, so that it is the same every time.

use std::net::IpAddr;

use connector::Reach;
use model::fault::mutant;
use model::settings::Deliver;
use model::{EmailAddress, Reason, Refusal};

/// Ports at which mail leaves this machine for the world, even from a server on this machine.
const MAIL_PORTS: [u16; 3] = [25, 465, 587];

/// Whether a message to this address may go that way.
///
/// `local`: files, and this machine (`localhost` or a loopback address) on ports other than 25, 465 and 587. `colleagues`:
/// these, and anywhere to an address that one of the patterns describes (`*@acme.test`). `all`: everything.
pub fn may_go(
    deliver: Deliver,
    colleagues: &[String],
    reach: &Reach,
    rcpt: &EmailAddress,
) -> Result<(), Refusal> {
    let Some((host, port)) = kept_from(deliver, reach) else { return Ok(()) };
    let saw = match deliver {
        Deliver::Colleagues if is_colleague(colleagues, rcpt) => return Ok(()),
        Deliver::Colleagues => format!(
            "`deliver: colleagues` lets messages go to {host}:{port} for the addresses of `colleagues` only, and this is none of \
             them; set `deliver: all` in drumbeat.yml to send to everybody"
        ),
        Deliver::Local | Deliver::All => format!(
            "`deliver: local` lets messages go into files and to this machine (localhost or a loopback address, not on ports 25, \
             465 and 587), and not to {host}:{port}; set `deliver: colleagues` or `deliver: all` in drumbeat.yml to use it"
        ),
    };
    Err(Refusal { reason: Reason::SysConnectorDisabled, saw })
}

/// Where `deliver` does not let everybody go: neither files, nor this machine but for its mail ports, nor everywhere.
fn kept_from(deliver: Deliver, reach: &Reach) -> Option<(&str, u16)> {
    let Reach::Network { host, port } = reach else { return None };
    let may = deliver == Deliver::All || is_this_machine(host) && !MAIL_PORTS.contains(port);
    (!may).then_some((host.as_str(), *port))
}

/// Whether an audience may go that way. There are no colleagues in it: it goes where everything may, or to this machine.
pub(super) fn may_hand_over(deliver: Deliver, reach: &Reach) -> Result<(), Refusal> {
    let Some((host, port)) = kept_from(deliver, reach) else { return Ok(()) };
    let saw = format!(
        "`deliver: {}` lets audiences go into files and to this machine (localhost or a loopback address), and not to {host}:{port}; \
         set `deliver: all` in drumbeat.yml to use it",
        deliver.as_str()
    );
    Err(Refusal { reason: Reason::SysConnectorDisabled, saw })
}

/// Which addresses HTTP may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Those of this machine: the name says so, and `deliver` lets go nowhere else.
    ThisMachine,
    /// Those of the public network.
    Public,
    /// Any unicast address: a server of one's own, and the settings say so.
    Private,
}

impl Rule {
    /// For a host by its name: see [`may_go`], which has let it pass.
    pub(super) fn of(deliver: Deliver, host: &str, is_private: bool) -> Self {
        match (is_this_machine(host) && deliver != Deliver::All, is_private) {
            (true, _) => Self::ThisMachine,
            (false, true) => Self::Private,
            (false, false) => Self::Public,
        }
    }
}

/// What an address is, if it may not be gone to. What is written in another form (IPv4 in IPv6) is looked at as what it is; what leads to IPv4
/// through a translator (6to4, NAT64, SIIT, Teredo) is nothing that a provider has.
pub(super) fn forbidden(rule: Rule, address: IpAddr) -> Option<&'static str> {
    if mutant("egress_open") {
        return None;
    }
    let address = address.to_canonical();
    if rule == Rule::ThisMachine {
        return (!address.is_loopback()).then_some("not this machine, though its name says so");
    }
    let nowhere = match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            a == 0
                || a >= 224
                || (a, b, c) == (192, 0, 0)
                || (a, b, c) == (192, 88, 99)
                || matches!((a, b, c), (192, 0, 2) | (198, 51, 100) | (203, 0, 113))
                || (a, b & 0xfe) == (198, 18)
        }
        IpAddr::V6(v6) => {
            let s = v6.segments();
            v6.is_unspecified()
                || s[0] >> 8 == 0xff
                || (s[0], s[1]) == (0x2001, 0xdb8)
                || s[0] & 0xfff0 == 0x3ff0
                || (s[0] == 0x100 && s[1..4] == [0, 0, 0])
                || s[0] == 0x2002
                || (s[0], s[1]) == (0x64, 0xff9b)
                || (s[0] == 0x2001 && s[1] < 0x200)
                || s[0] == 0x5f00
                || s[..6] == [0; 6] && s[6] != 0
                || s[..6] == [0, 0, 0, 0, 0xffff, 0]
        }
    };
    if nowhere {
        return Some("no address of a server");
    }
    // The services that clouds offer to their machines are nobody's receiver, also in a private network.
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xffc0 == 0xfe80 || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    };
    if is_link_local {
        return Some("an address of the local link");
    }
    if rule == Rule::Private {
        return None;
    }
    let is_private = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.segments()[0] & 0xfe00 == 0xfc00 || v6.segments()[0] & 0xffc0 == 0xfec0
        }
    };
    is_private.then_some("an address of a private network")
}

/// Whether an address is one of our own people's: all that a test may reach.
pub fn is_colleague(colleagues: &[String], address: &EmailAddress) -> bool {
    colleagues.iter().any(|pattern| matches(pattern, address))
}

/// Whether a host's name says "this machine".
pub(super) fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// Whether an address is of this machine, also when it is written as IPv4 within IPv6.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// `*` stands for any characters. Case does not matter.
fn matches(pattern: &str, address: &EmailAddress) -> bool {
    let (pattern, text) = (pattern.trim().to_lowercase(), address.normalised());
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(deliver: Deliver, host: &str, port: u16, rcpt: &str, expected: bool) {
        let colleagues = ["*@acme.test".to_owned(), "qa+*@mail.*.test".to_owned()];
        let reach = Reach::Network { host: host.to_owned(), port };
        let rcpt = EmailAddress::parse(rcpt).unwrap();
        let got = may_go(deliver, &colleagues, &reach, &rcpt);
        assert_eq!(got.is_ok(), expected, "{deliver:?} {host}:{port}");
        if let Err(refusal) = got {
            assert_eq!(refusal.reason, Reason::SysConnectorDisabled);
            assert!(refusal.saw.contains("deliver: all") && !refusal.saw.contains('@'), "{}", refusal.saw);
        }
    }

    #[test]
    fn local_reaches_this_machine_and_no_mail_port() {
        for host in ["127.0.0.1", "localhost", "LOCALHOST", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            check(Deliver::Local, host, 1025, "ana@example.test", true);
            for port in MAIL_PORTS {
                check(Deliver::Local, host, port, "ana@example.test", false);
            }
        }
        for host in [
            "smtp.example.test",
            "10.0.0.1",
            "0.0.0.0",
            "localhost.example.test",
            "127.0.0.1.nip.test",
            "::2",
        ] {
            check(Deliver::Local, host, 1025, "hello@acme.test", false);
        }
    }

    #[test]
    fn colleagues_are_reached_anywhere_and_others_here_only() {
        check(Deliver::Colleagues, "smtp.example.test", 587, "hello@acme.test", true);
        check(Deliver::Colleagues, "smtp.example.test", 587, "Hello@ACME.test", true);
        check(Deliver::Colleagues, "smtp.example.test", 587, "qa+7@mail.eu.test", true);
        check(Deliver::Colleagues, "smtp.example.test", 587, "ana@example.test", false);
        check(Deliver::Colleagues, "smtp.example.test", 587, "hello@acme.test.example.test", false);
        check(Deliver::Colleagues, "smtp.example.test", 587, "hello@notacme.test", false);
        check(Deliver::Colleagues, "127.0.0.1", 1025, "ana@example.test", true);
        check(Deliver::Colleagues, "127.0.0.1", 25, "ana@example.test", false);
        check(Deliver::All, "smtp.example.test", 25, "ana@example.test", true);
    }

    #[test]
    fn files_may_always_be_written() {
        let ana = EmailAddress::parse("ana@example.test").unwrap();
        assert_eq!(may_go(Deliver::Local, &[], &Reach::Local, &ana), Ok(()));
    }
}
