//! What people are called, what the warehouse holds and what an author gets wrong cannot harm the others.

use message::{Letter, compose, samples};
use model::value::ValueType;
use model::{DeliveryId, EmailAddress, Reason, Value};
use proptest::prelude::*;

use crate::given::{Reader, compiled, text, text_message, values};

const MAIL: &str = r##"---
subject: "Hello {{ profile.x }}"
headers: {X-Word: "{{ with.word | default('none') }}"}
---
<mjml><mj-body><mj-section><mj-column>
<mj-text>Text {{ profile.x }} end</mj-text>
<mj-button href="https://x.test/?q={{ profile.x | urlencode }}&amp;raw={{ profile.x }}">{{ profile.x }}</mj-button>
</mj-column></mj-section></mj-body></mjml>"##;

/// Values that try to be something else.
const INJECTIONS: &[&str] = &[
    "<script>alert(1)</script>",
    "</title><script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "<!-- x",
    "--> x",
    "]]>",
    "<![endif]-->",
    "&lt;script&gt;",
    "&#60;b&#62;",
    "{{ 7*7 }}",
    "{% raw %}",
    "{%- endif %}",
    "{# x #}",
    "{{ profile.email }}",
    "{{ skip('x') }}",
    "{%",
    "}}",
    "%}{{",
    "dbtag0q00001x",
    "<!--dbtag0q00001x-->",
    "__drumbeat_reader",
    "javascript:alert(1)",
    "%0d%0aBcc: eve@example.test",
    "=?utf-8?Q?=0D=0ABcc:_eve@example.test?=",
    "=?utf-8?B?DQpCY2M6?=",
    "a\tb",
    "  spaces  ",
    "\u{202e}txt.exe",
    "\u{feff}bom",
    "e\u{301}\u{301}\u{301}",
    "👩‍👩‍👧‍👦",
    "שלום",
    "𝕳",
    "\u{1f4a9}",
    "\\\" \\\\",
    "a;b,c<d>",
    "(comment)",
    "Bcc: eve@example.test",
    ".",
    "..",
    "From me",
    "-- ",
    "a=b==",
    "=20",
    "1\u{2028}2\u{2029}3",
    "\u{85}x",
    "O'Brien & Söhne",
    "NULL",
    "None",
    "undefined",
    "$(id)",
    "`id`",
    "'; DROP TABLE x; --",
];

fn send(reader: &Reader, name: Option<&str>) -> Result<String, model::Refusal> {
    let rendered = reader.render(&compiled(&[("m.mjml", MAIL)]).unwrap())?;
    write(&rendered, name)
}

fn write(rendered: &message::Rendered, name: Option<&str>) -> Result<String, model::Refusal> {
    let mail = compose(&Letter {
        rendered,
        from: "Acme <hello@acme.test>",
        reply_to: Some("help@acme.test"),
        to: &EmailAddress::parse("ana@example.test").unwrap(),
        to_name: name,
        delivery: &DeliveryId::known("abcdefghijklmnopqrstuvwxyz234567"),
        date: "2026-03-03T09:00:00Z".parse().unwrap(),
        list_id: Some("offers.mail.acme.test"),
        unsubscribe_url: Some("https://mail.acme.test/u/TOKEN"),
        unsubscribe_mailto: None,
        feedback_id: None,
        signer: None,
        test: false,
    })?;
    Ok(String::from_utf8(mail.bytes).unwrap())
}

/// The names of the headers, and that every line of the message is one a mail server takes.
fn header_names(mail: &str) -> Vec<&str> {
    for line in mail.split("\r\n") {
        assert!(line.len() <= 998, "a line of {} octets", line.len());
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
    }
    let head = mail.split("\r\n\r\n").next().unwrap();
    assert!(head.is_ascii());
    head.split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap())
        .collect()
}

const NAMES: [&str; 12] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "X-Word",
    "MIME-Version",
    "Content-Type",
];

#[test]
fn no_value_becomes_markup_a_tag_or_a_header() {
    let compiled = compiled(&[("m.mjml", MAIL)]).unwrap();
    let plain = Reader::new(&[("x", text("Ana"))]).render(&compiled).unwrap().html.unwrap();
    let tags = |html: &str| html.matches('<').count();
    for injection in INJECTIONS {
        let mut reader = Reader::new(&[("x", text(injection))]);
        reader.with = values(&[("word", text(injection))]);
        let rendered = match reader.render(&compiled) {
            Ok(rendered) => rendered,
            Err(refusal) => {
                assert!(
                    injection.contains(|c: char| c.is_control() && c != '\t'),
                    "{injection:?}: {refusal:?}"
                );
                continue;
            }
        };
        let html = rendered.html.as_ref().unwrap();
        assert_eq!(tags(html), tags(&plain), "{injection:?}: {html}");
        assert_eq!(rendered.subject, format!("Hello {injection}").trim(), "{injection:?}");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&rendered.text).contains(&words(injection)), "{injection:?}: {}", rendered.text);
        assert!(!html.contains("49") && !rendered.text.contains("49"), "{injection:?}");
        let mail = write(&rendered, Some(injection)).unwrap();
        assert_eq!(header_names(&mail), NAMES, "{injection:?}");
        assert!(!mail.split("\r\n\r\n").next().unwrap().contains("\r\nBcc"), "{injection:?}");
    }
    assert!(INJECTIONS.len() >= 50);
}

#[test]
fn line_breaks_stop_a_header_and_not_a_name() {
    for (value, reason) in [
        ("Ana\r\nBcc: eve@example.test", Reason::VarInvalid),
        ("Ana\nx", Reason::VarInvalid),
        ("Ana\rx", Reason::VarInvalid),
        ("Ana\0x", Reason::VarInvalid),
        ("x\u{85}x", Reason::VarInvalid),
    ] {
        let refusal = send(&Reader::new(&[("x", text(value))]), None).unwrap_err();
        assert_eq!(refusal.reason, reason, "{value:?}");
        assert!(!refusal.saw.contains("Ana") && refusal.saw.contains("the subject"), "{}", refusal.saw);
        let mut reader = Reader::new(&[("x", text("Ana"))]);
        reader.with = values(&[("word", text(value))]);
        let refusal = send(&reader, None).unwrap_err();
        assert_eq!((refusal.reason, refusal.saw.contains("X-Word")), (reason, true));
        let mail = send(&Reader::new(&[("x", text("Ana"))]), Some(value)).unwrap();
        assert_eq!(header_names(&mail), NAMES, "{value:?}");
    }
    let refusal = send(&Reader::new(&[("x", text(&"x".repeat(1000)))]), None).unwrap_err();
    assert_eq!(refusal.reason, Reason::ContentTooLarge);
}

#[test]
fn the_three_made_up_people_do_no_harm() {
    let columns = [
        ("x".to_owned(), None, vec![]),
        ("plan".to_owned(), Some(ValueType::Text), vec!["trial".to_owned(), "team".to_owned()]),
        ("n".to_owned(), Some(ValueType::Integer), vec![]),
        ("f".to_owned(), Some(ValueType::Number), vec![]),
        ("b".to_owned(), Some(ValueType::Boolean), vec![]),
        ("d".to_owned(), Some(ValueType::Date), vec![]),
        ("t".to_owned(), Some(ValueType::Time), vec![]),
        ("j".to_owned(), Some(ValueType::Json), vec![]),
    ];
    let template = "---\nsubject: s\n---\n<p title=\"{{ profile.x }}\">{{ profile.x | default('nobody') }} {% if profile.n %}{{ profile.plan }} {{ profile.n | number }} {{ profile.f | money('EUR') }} {{ profile.b }} {{ profile.j['items'] | length }}{% endif %}</p>";
    let compiled = compiled(&[("m.html", template)]).unwrap();
    let [full, empty, hostile] =
        samples(&columns).map(|(name, profile)| (name, Reader::of(profile).render(&compiled)));
    assert_eq!((full.0, empty.0, hostile.0), ("full", "empty", "hostile"));
    assert_eq!(full.1.unwrap().text, "x trial 42 €1,234.50 true 1\n");
    assert_eq!(empty.1.unwrap_err().reason, Reason::VarMissing);
    let hostile = hostile.1.unwrap();
    let html = hostile.html.as_ref().unwrap();
    assert!(
        html.len() > 20_000
            && !html.contains("<script")
            && !html.contains('\0')
            && html.contains("{{ 7*7 }}"),
        "{}",
        html.len()
    );
    let mail = write(&hostile, Some("x\r\ny")).unwrap();
    header_names(&mail);

    let dates = compiled_dates();
    for (_, profile) in samples(&columns) {
        let outcome = Reader::of(profile).render(&dates);
        assert!(
            outcome.is_ok() || matches!(&outcome, Err(refusal) if refusal.reason != Reason::ContentTooLarge),
            "{outcome:?}"
        );
    }
}

fn compiled_dates() -> message::Compiled {
    text_message("{{ profile.d | date('EEEE d MMMM yyyy') }} {{ profile.t | date('HH:mm') }} {{ profile.d < profile.t }} {{ [profile.d, profile.t, today, now] | sort | first }}").unwrap()
}

#[test]
fn work_and_size_are_bounded() {
    let big = text(&"x".repeat(100_000));
    let ten = Value::Json(serde_json::Value::Array((0..1000).map(Into::into).collect()));
    let reader =
        Reader::new(&[("big", big), ("ten", ten), ("n", Value::Integer(100_000_000)), ("a", text("a"))]);
    for template in [
        "{{ profile.a * profile.n }}",
        "{{ (profile.a ~ 'b') * 100000000 }}",
        "{{ [profile.a] * 100000000 | join }}",
        "{{ ([1] * profile.n) | list | length }}",
        "{% for x in profile.ten %}{% for y in profile.ten %}{% for z in profile.ten %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for x in profile.ten %}{{ profile.big }}{% endfor %}",
        "{% set x = namespace(t='') %}{% for y in profile.ten %}{% set x.t = x.t ~ profile.big %}{% endfor %}",
        "{{ '%100000000d' | format(1) }}",
        "{{ '%.100000000f' | format(1.5) }}",
        "{{ profile.a | indent(100000000) }}{{ 'x\ny' | indent(profile.n) }}",
        "{{ range(profile.n) | list | length }}",
        "{{ profile.ten | batch(100000000, 'x') | list }}",
        "{{ profile.ten | slice(100000000) | list }}",
        "{{ profile.big | replace('x', profile.big) }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% for x in profile.ten recursive %}{{ loop(profile.ten) }}{% endfor %}",
        "{{ profile.ten | join(profile.big) }}",
        "{{ profile.ten | map('string') | join(profile.big) }}",
    ] {
        let compiled = text_message(template).unwrap_or_else(|mistakes| panic!("{template}: {mistakes:#?}"));
        let refusal = reader.render(&compiled).expect_err(template);
        assert!(
            matches!(refusal.reason, Reason::ContentTooLarge | Reason::RenderError),
            "{template}: {refusal:?}"
        );
    }
    let refusal = reader
        .render(&text_message("{% for x in profile.ten %}{{ profile.big }}{% endfor %}").unwrap())
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::ContentTooLarge);
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    assert!(peak.is_none_or(|kilobytes| kilobytes < 400_000), "{peak:?} kB of memory");
}

#[test]
fn elements_nested_without_end_are_refused_and_harm_nothing() {
    let deep = |tag: &str| format!("<{tag}>").repeat(20_000) + &format!("</{tag}>").repeat(20_000);
    let mjml = format!(
        "---\nsubject: s\n---\n<mjml><mj-body><mj-section><mj-column><mj-text>{}</mj-text></mj-column></mj-section></mj-body></mjml>",
        deep("b")
    );
    let mistakes = compiled(&[("m.mjml", &mjml)]).unwrap_err();
    assert!(mistakes[0].message.contains("nested too deeply"), "{:?}", mistakes[0]);
    let _compiled = compiled(&[("m.html", &format!("---\nsubject: s\n---\n{}", deep("b")))]);
    let _compiled = compiled(&[("m.md", &format!("---\nsubject: s\n---\n{}", "> ".repeat(5_000)))]);
}

#[test]
fn a_compiled_template_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&text_message("x").unwrap());
}

#[test]
fn an_error_names_no_value() {
    let secret = "secret-ana@example.test";
    let reader = Reader::new(&[("x", text(secret)), ("j", Value::Json(serde_json::json!({"a": [secret]})))]);
    for template in [
        "{{ profile.x + 1 }}",
        "{{ profile.x | number }}",
        "{{ profile.x | date }}",
        "{{ profile.x | money('EUR') }}",
        "{{ 1 | money(profile.x) }}",
        "{{ now | date(profile.x) }}",
        "{{ profile.j }}",
        "{{ profile.j.a }}",
        "{{ profile.x | int }}",
        "{{ profile.x | batch }}",
        "{{ profile.x | attr('a') }}",
        "{{ 'a' | format(profile.x) }}",
        "{{ [1] | map(profile.x) | list }}",
        "{{ profile[profile.x] }}",
        "{{ range(profile.x) }}",
        "{{ profile.x | round }}",
        "{{ dict(profile.x) }}",
        "{{ -profile.x }}",
        "{{ profile.x[1:'a'] }}",
        "{{ profile.x.y }}",
    ] {
        let compiled = text_message(template).unwrap_or_else(|mistakes| panic!("{template}: {mistakes:#?}"));
        if let Err(refusal) = reader.render(&compiled) {
            assert!(!refusal.saw.contains("secret"), "{template}: {}", refusal.saw);
            assert!(refusal.saw.contains("templates/m.txt:4"), "{template}: {}", refusal.saw);
        }
    }
    let compiled = text_message("{{ profile.x }}").unwrap();
    let rendered = reader.render(&compiled).unwrap();
    assert!(!format!("{rendered:?}").contains("secret"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn headers_never_gain_lines(subject in ".{0,200}", word in "\\PC{0,120}", name in ".{0,150}", from in ".{0,60}") {
        let rendered = message::Rendered {
            subject,
            preheader: None,
            html: Some(format!("<p>{name}</p>")),
            text: word.clone(),
            from: (!from.is_empty()).then_some(from),
            reply_to: None,
            headers: vec![("X-Word".to_owned(), word.clone())],
            fallback: false,
        };
        if let Ok(mail) = write(&rendered, Some(&name)) {
            let names = header_names(&mail);
            prop_assert_eq!(&names, &NAMES.iter().copied().filter(|name| *name != "X-Word" || !word.is_empty()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_template_panics(body in "[a-z{}%<>/\\-\"' |.=\n]{0,120}") {
        for name in ["m.html", "m.md", "m.txt", "m.mjml"] {
            if let Ok(compiled) = compiled(&[(name, &format!("---\nsubject: s\n---\n{body}"))]) {
                let _rendered = Reader::new(&[]).render(&compiled);
            }
        }
    }

    #[test]
    fn no_value_adds_an_element(value in "\\PC{0,60}") {
        let compiled = compiled(&[("m.html", "---\nsubject: s\n---\n<p title='{{ profile.x }}'>{{ profile.x }}</p>")]).unwrap();
        let html = |value: &str| Reader::new(&[("x", text(value))]).render(&compiled).unwrap().html.unwrap();
        prop_assert_eq!(html(&format!("x{value}")).matches('<').count(), html("x").matches('<').count());
    }
}
