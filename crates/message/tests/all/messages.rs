//! What people get: values, languages, layouts, filters, the two parts of a mail.

use model::{Reason, Value};
use serde_json::json;

use crate::given::{Reader, compiled, locales, text, text_message, values};

/// The text of a text-only message.
fn said(template: &str, reader: &Reader) -> String {
    let compiled = text_message(template).unwrap_or_else(|mistakes| panic!("{template}: {mistakes:#?}"));
    match reader.render(&compiled) {
        Ok(rendered) => rendered.text,
        Err(refusal) => format!("{} {}", refusal.reason, refusal.saw),
    }
}

const LAYOUT: &str = r##"<mjml>
  <mj-head><mj-style>.loud { color: #ff0000 } .loud:hover { color: #00ff00 }</mj-style></mj-head>
  <mj-body>
    {% block before %}{% endblock %}
    <mj-section><mj-column>{% block body %}<mj-text>Nothing.</mj-text>{% endblock %}</mj-column></mj-section>
    {% include "_footer.mjml" %}
  </mj-body>
</mjml>
"##;
const FOOTER: &str = r#"<mj-section><mj-column><mj-text>{{ postal_address }}<br /><a href="{{ unsubscribe_url }}">Unsubscribe</a></mj-text></mj-column></mj-section>"#;
const FOOTER_DE: &str = r#"<mj-section><mj-column><mj-text>{{ postal_address }}<br /><a href="{{ unsubscribe_url }}">Abmelden</a></mj-text></mj-column></mj-section>"#;

fn with_layout<'a>(files: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![("_layout.mjml", LAYOUT), ("_footer.mjml", FOOTER), ("_footer.de.mjml", FOOTER_DE)];
    all.extend_from_slice(files);
    all
}

#[test]
fn values_are_printed_as_people_write_them() {
    let mut reader = Reader::new(&[
        ("first_name", text("Ana")),
        ("plan", text("team")),
        ("seats", Value::Integer(12_000)),
        ("arr", Value::Number(20_000.0)),
        ("share", Value::Number(0.25)),
        ("paid", Value::Boolean(true)),
        ("ends", Value::Time("2026-03-31T22:30:00Z".parse().unwrap())),
        ("born", Value::Date(jiff::civil::date(1990, 12, 24))),
        (
            "cart",
            Value::Json(
                json!({"items": [{"sku": "a", "qty": 2}, {"sku": "b", "qty": 1}], "note": null, "shop": ""}),
            ),
        ),
    ]);
    reader.with = values(&[("headline", text("Hello"))]);
    reader.entry = values(&[("last_seen", text("2026-01-05 23:30:00"))]);
    reader.account = values(&[("id", text("a-1")), ("name", text("Acme")), ("arr", Value::Number(1.5))]);
    for (template, expected) in [
        ("{{ profile.first_name }} {{ profile['plan'] }} {{ profile.id }}", "Ana team c-17"),
        ("{{ account.name }} {{ account['arr'] }} {{ account.id }}", "Acme 1.5 a-1"),
        (
            "{{ profile.seats }} {{ profile.arr }} {{ profile.share }} {{ profile.paid }}",
            "12000 20000 0.25 true",
        ),
        (
            "{{ with.headline }}, {{ playbook.title }} {{ playbook.name }} {{ step }} {{ brand.title }} {{ locale }}",
            "Hello, Win back win_back nudge Acme en",
        ),
        (
            "{{ profile.seats | number }} {{ profile.arr | money('EUR') }} {{ profile.share | number(1) }}",
            "12,000 €20,000.00 0.3",
        ),
        ("{{ profile.ends | date('d MMMM yyyy, HH:mm') }}", "1 April 2026, 00:30"),
        ("{{ profile.born | date }} {{ profile.born }}", "24 December 1990 1990-12-24"),
        ("{{ entry.last_seen | date('EEEE d MMMM') }}", "Tuesday 6 January"),
        (
            "{{ today }} {{ today_plus_4d | date('d MMM') }} {{ today_minus_1w }}",
            "2026-03-03 7 Mar 2026-02-24",
        ),
        ("{{ now }}", "2026-03-03T22:30:00Z"),
        ("{% if profile.ends > today_plus_4d and profile.born < today %}later{% endif %}", "later"),
        (
            "{% if profile.ends < today_plus_4w %}soon{% endif %}{% if profile.ends == profile.ends %}!{% endif %}",
            "!",
        ),
        (
            "{% for item in profile.cart['items'] %}{{ item.qty }} {{ item.sku }}{{ ', ' if not loop.last }}{% endfor %}",
            "2 a, 1 b",
        ),
        ("{% set n = profile.first_name %}{{ n | upper }}{% with m = 2 %}{{ m + 1 }}{% endwith %}", "ANA3"),
        (
            "{% macro hi(name, mark='!') %}Hi {{ name }}{{ mark }}{% endmacro %}{{ hi(profile.first_name) }} {{ hi('B', '?') }}",
            "Hi Ana! Hi B?",
        ),
        ("{% macro day(t) %}{{ t | date('d MMM') }}{% endmacro %}{{ day(profile.born) }}", "24 Dec"),
        ("{{ ['b', 'a'] | sort | join(' ') }} {{ 'x' if profile.gone }}.", "a b ."),
        ("{% raw %}{{ not.this }}{% endraw %}", "{{ not.this }}"),
        ("a { b {{- ' c ' -}} } {# gone #}{{ '{{' }}{{ '%}' }}", "a { b c } {{%}"),
        ("{ {{- profile.plan }}", "{team"),
    ] {
        assert_eq!(said(template, &reader).trim_end(), expected, "{template}");
    }
}

#[test]
fn dates_and_amounts_are_in_the_readers_language_and_zone() {
    let mut reader = Reader::new(&[
        ("ends", Value::Time("2026-03-03T22:30:00Z".parse().unwrap())),
        ("price", text("1234.5")),
    ])
    .german();
    let template = "{{ locale }} {{ profile.ends | date('EEEE, d. MMMM HH:mm') }} {{ profile.price | money('EUR') }} {{ profile.price | number }} {{ today }}";
    assert_eq!(said(template, &reader), "de Dienstag, 3. März 23:30 1.234,50\u{a0}€ 1.234,5 2026-03-03");
    reader.zone = jiff::tz::TimeZone::get("Pacific/Auckland").unwrap();
    reader.locale = "de_AT".to_owned();
    assert_eq!(said(template, &reader), "de Mittwoch, 4. März 11:30 1.234,50\u{a0}€ 1.234,5 2026-03-04");
    reader.locale = "fi".to_owned();
    assert!(said(template, &reader).starts_with("en Wednesday, 4. March 11:30 €1,234.50 1,234.5"));
}

#[test]
fn what_is_missing_may_be_asked_about_and_not_printed() {
    let reader = Reader::new(&[
        ("null", Value::Missing),
        ("empty", text("")),
        ("json", Value::Json(json!({"null": null, "empty": "", "list": [null]}))),
    ]);
    for missing in [
        "profile.null",
        "profile.empty",
        "profile.gone",
        "account.name",
        "entry.gone",
        "with.gone",
        "profile.json.null",
        "profile.json.empty",
        "profile.json.gone",
    ] {
        for (template, expected) in [
            ("{% if X %}yes{% else %}no{% endif %}", "no"),
            ("{% if not X %}no{% endif %}", "no"),
            ("{{ X | default('none') }}", "none"),
            ("{{ X is defined }}", "false"),
            ("{{ X or 'none' }}", "none"),
            ("{% if X and X == 'a' %}a{% endif %}.", "."),
            ("{{ X if X }}.", "."),
        ] {
            let template = template.replace('X', missing);
            assert_eq!(said(&template, &reader), expected, "{template}");
        }
        for template in [
            "{{ X }}",
            "{{ X | upper }}",
            "{{ X | date }}",
            "{{ X | number }}",
            "{{ X | money('EUR') }}",
            "Hi {{ 'a' ~ X }}",
            "{{ X + 1 }}",
            "{% for x in X %}{% endfor %}",
            "{{ X.deeper }}",
            "{% set y = X %}{{ y }}",
            "{{ X | trim }}",
            "{{ X | join(', ') }}",
            "{% if X == 'a' %}{% endif %}",
            "{% if X > 1 %}{% endif %}",
        ] {
            let template = template.replace('X', missing);
            let said = said(&template, &reader);
            assert!(said.starts_with("content.var_missing "), "{template}: {said}");
            assert!(said.contains(missing.rsplit('.').next().unwrap()), "{template}: {said}");
            assert!(said.contains("templates/m.txt:4"), "{template}: {said}");
        }
    }
    let mut unlinked = Reader::new(&[]);
    unlinked.links = false;
    assert!(said("{{ unsubscribe_url }}", &unlinked).starts_with("content.var_missing `unsubscribe_url`"));
    assert_eq!(said("{% if unsubscribe_url %}x{% endif %}.", &unlinked), ".");
}

#[test]
fn the_author_can_stop_a_message() {
    let reader = Reader::new(&[("stock", Value::Integer(0))]);
    assert_eq!(
        said("{% if profile.stock == 0 %}{{ skip(\"sold out\") }}{% endif %}", &reader),
        "content.author_abort sold out (templates/m.txt:4)"
    );
    let files = with_layout(&[(
        "m.mjml",
        "---\nsubject: s\n---\n{% extends '_layout.mjml' %}\n{{ skip('outside') if profile.stock == 0 }}\n{% block body %}{{ skip('inside') }}<mj-text>x</mj-text>{% endblock %}",
    )]);
    let compiled = compiled(&files).unwrap();
    let refusal = reader.render(&compiled).unwrap_err();
    assert_eq!((refusal.reason, refusal.saw.as_str()), (Reason::AuthorAbort, "outside (templates/m.mjml:5)"));
    let refusal = Reader::new(&[("stock", Value::Integer(1))]).render(&compiled).unwrap_err();
    assert_eq!((refusal.reason, refusal.saw.as_str()), (Reason::AuthorAbort, "inside (templates/m.mjml:6)"));
}

#[test]
fn a_message_with_a_layout_is_html_and_text_in_the_readers_language() {
    let files = with_layout(&[
        (
            "m.mjml",
            "---\nsubject: \"{{ profile.first_name | default('Hello') }}, all right?\"\npreheader: \"We miss you\"\n---\n{% extends \"_layout.mjml\" %}\n{% block body %}\n<mj-text css-class=\"loud\">Hello {{ profile.first_name | default(\"there\") }},</mj-text>\n<mj-button href=\"https://acme.test/back?a=1&amp;b={{ profile.id }}\">Come back</mj-button>\n{% endblock %}\n",
        ),
        (
            "m.de.mjml",
            "---\nsubject: \"{{ profile.first_name | default('Hallo') }}, alles gut?\"\n---\n{% extends \"_layout.mjml\" %}{% block body %}<mj-text>Hallo {{ profile.first_name }}</mj-text>{% endblock %}",
        ),
    ]);
    let compiled = compiled(&files).unwrap();
    assert_eq!(compiled.warnings(), []);
    assert!(compiled.uses_unsubscribe() && compiled.uses_postal_address());
    assert_eq!(compiled.missing_locales(&locales()), [""; 0]);
    assert_eq!(compiled.missing_locales(&["en".to_owned(), "de-AT".to_owned(), "fr".to_owned()]), ["fr"]);

    let english = Reader::new(&[("first_name", text("Ana <b>&</b>"))]).render(&compiled).unwrap();
    assert_eq!(english.subject, "Ana <b>&</b>, all right?");
    assert_eq!(english.preheader.as_deref(), Some("We miss you"));
    assert_eq!(
        english.text,
        "Hello Ana <b>&</b>,\n\nCome back <https://acme.test/back?a=1&b=c-17>\n\nAcme GmbH, Example Street 1, Berlin\nUnsubscribe <https://mail.acme.test/u/TOKEN_1-2>\n"
    );
    let html = english.html.unwrap();
    assert!(html.contains("Hello Ana &lt;b&gt;&amp;&lt;/b&gt;,"), "{html}");
    assert!(html.contains("href=\"https://mail.acme.test/u/TOKEN_1-2\""), "{html}");
    assert!(html.contains("href=\"https://acme.test/back?a=1&amp;b=c-17\""), "{html}");
    assert!(html.contains("We miss you</div>"), "{html}");
    assert!(html.contains("lang=\"en\""));
    assert!(
        html.contains("color: #ff0000\"") || html.contains("color: #ff0000;"),
        "the style is not inlined: {html}"
    );
    assert!(html.contains(".loud:hover"), "what cannot be inlined is gone");
    for not_there in ["{{", "{%", "mj-", "dbtag", "fonts.googleapis", "__drumbeat"] {
        let found = html.replace("mj-column-per-100", "").replace("mj-outlook-group-fix", "");
        assert!(!found.contains(not_there), "{not_there}: {html}");
    }

    let german = Reader::new(&[("first_name", text("Ana"))]).german().render(&compiled).unwrap();
    assert_eq!((german.subject.as_str(), german.preheader), ("Ana, alles gut?", None));
    assert!(german.text.contains("Hallo Ana") && german.text.contains("Abmelden <"), "{}", german.text);
    assert!(!german.html.unwrap().contains("mso-hide:all"));
    let refusal = Reader::new(&[]).german().render(&compiled).unwrap_err();
    assert_eq!(
        (refusal.reason, refusal.saw.as_str()),
        (Reason::VarMissing, "`profile.first_name` is missing (templates/m.de.mjml:4)")
    );
}

#[test]
fn a_footer_in_the_readers_language_stands_under_a_message_in_another() {
    let files = with_layout(&[("m.mjml", "---\nsubject: s\n---\n{% extends \"_layout.mjml\" %}")]);
    let compiled = compiled(&files).unwrap();
    assert_eq!(compiled.missing_locales(&locales()), ["de"]);
    assert!(Reader::new(&[]).german().render(&compiled).unwrap().text.contains("Abmelden"));
    assert!(Reader::new(&[]).render(&compiled).unwrap().text.contains("Unsubscribe"));
    let mut french = Reader::new(&[]);
    french.locale = "fr-CA".to_owned();
    assert!(french.render(&compiled).unwrap().text.contains("Unsubscribe"));
}

#[test]
fn conditions_and_loops_stand_between_and_inside_elements() {
    let files = with_layout(&[(
        "m.mjml",
        r##"---
subject: s
---
{% extends "_layout.mjml" %}
{% block before %}{% if profile.vip %}<mj-section><mj-column><mj-text>VIP</mj-text></mj-column></mj-section>{% endif %}{% endblock %}
{% block body %}
{% for item in profile.cart.rows %}
<mj-text color="{% if item.qty > 1 %}#111111{% else %}#222222{% endif %}">{{ item.qty }} x {{ item.name }}{% if item.qty < 2 %} (last){% endif %}</mj-text>
{% endfor %}
<mj-table>{% for item in profile.cart.rows %}<tr><td>{{ item.name }}</td><td>{{ item.qty }}</td></tr>{% endfor %}</mj-table>
<mj-image src="https://x.test/{{ profile.id }}.png" alt="{{ profile.id }}" />
{{ super() }}
{% endblock %}"##,
    )]);
    let compiled = compiled(&files).unwrap();
    let cart = |vip| {
        let cart = json!({"rows": [{"qty": 2, "name": "Tea <1>"}, {"qty": 1, "name": "Cup"}]});
        Reader::new(&[("cart", Value::Json(cart)), ("vip", Value::Boolean(vip))])
    };
    let vip = cart(true).render(&compiled).unwrap();
    assert!(
        vip.text
            .starts_with("VIP\n\n2 x Tea <1>\n\n1 x Cup (last)\n\nTea <1>  2\nCup  1\n\nc-17\n\nNothing.\n"),
        "{}",
        vip.text
    );
    let html = vip.html.unwrap();
    assert!(
        html.contains("#111111")
            && html.contains("#222222")
            && html.contains("Tea &lt;1&gt;")
            && html.contains("src=\"https://x.test/c-17.png\""),
        "{html}"
    );
    assert_eq!(html.matches("<tr><td>").count(), 2, "{html}");
    let other = cart(false).render(&compiled).unwrap();
    assert!(other.text.starts_with("2 x Tea"), "{}", other.text);
    assert!(!other.html.unwrap().contains("VIP"));
}

#[test]
fn a_wrapper_with_conditions_stays_whole_for_every_mail_program() {
    let section =
        |word: &str| format!("<mj-section><mj-column><mj-text>{word}</mj-text></mj-column></mj-section>");
    let wrapper = format!(
        "---\nsubject: s\n---\n<mjml><mj-body><mj-wrapper>{{% if profile.vip %}}{}{{% endif %}}{{% for x in [1, 2] %}}{}{{% endfor %}}</mj-wrapper></mj-body></mjml>",
        section("VIP"),
        section("part {{ x }}")
    );
    let compiled = compiled(&[("m.mjml", &wrapper)]).unwrap();
    for (vip, text) in [(true, "VIP\n\npart 1\n\npart 2\n"), (false, "part 1\n\npart 2\n")] {
        let rendered = Reader::new(&[("vip", Value::Boolean(vip))]).render(&compiled).unwrap();
        assert_eq!(rendered.text, text);
        let html = rendered.html.unwrap();
        let outlook: String = html
            .split("<!--[if mso | IE]>")
            .skip(1)
            .map(|rest| rest.split_once("<![endif]-->").expect("a comment for Outlook does not end").0)
            .collect();
        assert!(!outlook.contains("-->"), "{html}");
        for element in ["table", "tr", "td"] {
            let (opened, closed) = (
                outlook.matches(&format!("<{element}")).count(),
                outlook.matches(&format!("</{element}>")).count(),
            );
            assert_eq!(opened, closed, "{element}: {html}");
        }
    }
}

#[test]
fn a_text_of_its_own_stands_in_for_the_derived_one_in_the_same_language() {
    let files = with_layout(&[
        ("m.mjml", "---\nsubject: s\n---\n{% extends \"_layout.mjml\" %}"),
        (
            "m.de.mjml",
            "---\nsubject: s\n---\n{% extends \"_layout.mjml\" %}{% block body %}<mj-text>Nichts.</mj-text>{% endblock %}",
        ),
        ("m.txt", "By hand, {{ profile.first_name }}.\n\n{% include \"_sign.txt\" %}"),
        ("_sign.txt", "{{ brand.title }} & Co, {{ postal_address }}, {{ unsubscribe_url }}\n"),
    ]);
    let compiled = compiled(&files).unwrap();
    assert!(compiled.uses_unsubscribe());
    let reader = Reader::new(&[("first_name", text("Ana"))]);
    assert_eq!(
        reader.render(&compiled).unwrap().text,
        "By hand, Ana.\n\nAcme & Co, Acme GmbH, Example Street 1, Berlin, https://mail.acme.test/u/TOKEN_1-2"
    );
    assert!(Reader::new(&[]).german().render(&compiled).unwrap().text.starts_with("Nichts."));
}

#[test]
fn a_link_out_must_be_in_every_part_and_every_language() {
    let print = "{{ unsubscribe_url }}";
    for (files, expected) in [
        (vec![("m.html", format!("---\nsubject: s\n---\n<p>{print}</p>"))], true),
        (vec![("m.html", format!("---\nsubject: s\n---\n<a href='{print}'>out</a>"))], true),
        (vec![("m.html", format!("---\nsubject: s\n---\n<!-- {print} --><p>x</p>"))], false),
        (vec![("m.html", format!("---\nsubject: s\n---\n<p style='display:none'>{print}</p>"))], false),
        (
            vec![("m.html", "---\nsubject: s\n---\n<p>{% if unsubscribe_url %}x{% endif %}</p>".to_owned())],
            false,
        ),
        (
            vec![("m.html", format!("---\nsubject: s\n---\n<p>{print}</p>")), ("m.txt", "none".to_owned())],
            false,
        ),
        (
            vec![
                ("m.html", format!("---\nsubject: s\n---\n<p>{print}</p>")),
                ("m.de.html", "---\nsubject: s\n---\n<p>x</p>".to_owned()),
            ],
            false,
        ),
        (vec![("m.html", format!("---\nsubject: '{print}'\n---\n<p>x</p>"))], false),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(compiled(&files).unwrap().uses_unsubscribe(), expected, "{files:?}");
    }
}

#[test]
fn html_and_markdown_are_mail_too() {
    let markdown = "---\nsubject: s\n---\n# Hello {{ profile.first_name }}\n\nTwo *small* things, and <b>one</b>:\n\n{% for x in [1, 2] %}\n- thing {{ x }}\n{% endfor %}\n\n{% if profile.vip %}You are [welcome]({{ unsubscribe_url }}).{% endif %}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n";
    let both = compiled(&[("m.md", markdown)]).unwrap();
    let reader = Reader::new(&[("first_name", text("*Ana*")), ("vip", Value::Boolean(true))]);
    let rendered = reader.render(&both).unwrap();
    let html = rendered.html.unwrap();
    assert!(
        html.contains(">Hello *Ana*</h1>") && html.contains("<em>small</em>") && html.contains("<b>one</b>"),
        "{html}"
    );
    assert!(html.contains("<li>thing 1</li>") && html.contains("<li>thing 2</li>"), "{html}");
    assert!(html.contains("<a href=\"https://mail.acme.test/u/TOKEN_1-2\">welcome</a>"), "{html}");
    assert_eq!(
        rendered.text,
        "Hello *Ana*\n\nTwo small things, and one:\n\n- thing 1\n\n- thing 2\n\nYou are welcome <https://mail.acme.test/u/TOKEN_1-2>.\n\na  b\n1  2\n"
    );

    let html = "---\nsubject: s\n---\n<style>p { color: red } @media print { p { color: black } }</style><p>{{ profile.first_name }}</p>";
    let rendered = reader.render(&compiled(&[("m.html", html)]).unwrap()).unwrap();
    let html = rendered.html.unwrap();
    assert!(
        html.contains("<p style=\"color: red")
            && html.contains("@media print")
            && html.starts_with("<!DOCTYPE html>"),
        "{html}"
    );
    assert_eq!(rendered.text, "*Ana*\n");
}

#[test]
fn markdown_and_html_find_their_place_in_an_mjml_layout() {
    let files = with_layout(&[
        (
            "m.md",
            "---\nsubject: s\n---\n{% extends \"_layout.mjml\" %}\n{% block before %}**Top** {{ profile.id }}{% endblock %}\n{% block body %}\nHello\n\n{% include \"_part.html\" %}\n{% endblock %}",
        ),
        ("_part.html", "<p>part {{ step }}</p>"),
    ]);
    let rendered = Reader::new(&[]).render(&compiled(&files).unwrap()).unwrap();
    assert!(rendered.text.starts_with("Top c-17\n\nHello\n\npart nudge\n\nAcme GmbH"), "{}", rendered.text);
    assert!(rendered.html.unwrap().contains("<strong>Top</strong>"));
}

#[test]
fn layouts_nest_and_parts_choose() {
    let files = [
        (
            "m.html",
            "---\nsubject: s\n---\n{% extends \"_mid.html\" %}{% set word = 'set' %}{% block a %}a1 {{ super() }}{% endblock %}{% block inner %}inner1 {{ word }}{% endblock %}",
        ),
        (
            "_mid.html",
            "{% extends \"_base.html\" %}{% block a %}a2 {{ super() }} {% block inner %}inner2{% endblock %}{% endblock %}",
        ),
        (
            "_base.html",
            "<body>{% block a %}a3{% endblock %}|{% block b %}b3{% endblock %}|{% include [\"_none.html\", \"_some.html\"] %}|{% include \"_none.html\" ignore missing %}|{% for i in [1,2] %}{% include \"_some.html\" %}{% endfor %}</body>",
        ),
        ("_some.html", "{% set x = 1 %}some{{ x }}"),
    ];
    let rendered = Reader::new(&[]).render(&compiled(&files).unwrap()).unwrap();
    assert_eq!(rendered.text.trim(), "a1 a2 a3 inner1 set|b3|some1||some1some1");
}

#[test]
fn the_digest_is_that_of_all_a_template_is_made_of() {
    let files = with_layout(&[
        ("m.mjml", "---\nsubject: s\n---\n{% extends \"_layout.mjml\" %}"),
        ("other.mjml", "x"),
    ]);
    let first = compiled(&files).unwrap();
    let mut changed = files.clone();
    changed[3].1 = "---\nsubject: t\n---\n{% extends \"_layout.mjml\" %}";
    assert_ne!(first.digest(), compiled(&changed).unwrap().digest());
    changed = files.clone();
    changed[2].1 = FOOTER;
    assert_ne!(first.digest(), compiled(&changed).unwrap().digest());
    changed = files.clone();
    changed[4].1 = "y";
    assert_eq!(first.digest(), compiled(&changed).unwrap().digest());
    let reached = crate::given::sources(&files).reached_from(&model::TemplateName::known("m"));
    let alone = message::compile(&reached, &model::TemplateName::known("m"), &locales()).unwrap();
    assert_eq!(first.digest(), alone.digest());
    assert_eq!(format!("{alone:?}"), format!("{first:?}"));
}

#[test]
fn what_is_used_is_told_with_its_place() {
    let compiled = text_message("{{ profile.first_name }}\n  {% if entry.last_seen %}{{ with['tone'] | default('x') }}{% endif %}{{ profile[with.column] | default('') }}").unwrap();
    let used: Vec<String> = compiled
        .used()
        .iter()
        .map(|used| {
            format!(
                "{}:{}:{}+{} {}.{}{}",
                used.file,
                used.line,
                used.column,
                used.len,
                used.root,
                used.name.as_deref().unwrap_or("*"),
                if used.guarded { "?" } else { "" }
            )
        })
        .collect();
    assert_eq!(
        used,
        [
            "m.txt:4:4+18 profile.first_name",
            "m.txt:5:9+15 entry.last_seen?",
            "m.txt:5:30+12 with.tone?",
            "m.txt:5:74+7 profile.*?",
            "m.txt:5:82+11 with.column",
        ]
    );
}

/// A default that stood for what a person's data lack, wherever it stood; one that is the template's own setting, or a question, does not
/// count.
#[test]
fn a_default_that_was_needed_is_said_of_the_message() {
    let mut reader =
        Reader::new(&[("plan", text("team")), ("first_name", text("")), ("cart", Value::Json(json!([{}])))]);
    reader.with = values(&[("headline", text("Hello"))]);
    for (template, expected) in [
        ("{{ profile.first_name | default('there') }}", true),
        ("{{ profile['first_name']|d('there') }}", true),
        ("Hello {{ profile.first_name | default }}", true),
        ("{{ profile.plan | default('none') }}", false),
        ("{{ entry.last_seen | default('long ago') }}", true),
        ("{{ account.name | default('your company') | upper }}", true),
        ("{% set name = profile.first_name | default('there') %}{{ name }}", true),
        ("{% for item in profile.cart %}{{ item.sku | default('?') }}{% endfor %}", true),
        (
            "{{ with.headline | default('Hi') }} {{ with.other | default('x') }} {{ with['more'] | d('y') }}",
            false,
        ),
        ("{{ with.other | default(profile.first_name | default('z')) }}", true),
        ("{{ brand.title | default('x') }} {{ preferences_url | default('x') }}", false),
        ("{% if profile.first_name %}{{ profile.first_name }}{% else %}there{% endif %}", false),
        ("{{ profile.first_name or 'there' }}{{ 'x' if profile.first_name }}", false),
        ("a{% if profile.plan == 'solo' %}{{ profile.first_name | default('there') }}{% endif %}", false),
    ] {
        let compiled = text_message(template).unwrap_or_else(|mistakes| panic!("{template}: {mistakes:#?}"));
        assert_eq!(reader.render(&compiled).unwrap().fallback, expected, "{template}");
    }
    let subject = |default: &str| {
        let file = format!("---\nsubject: \"{{{{ {default}('Hello') }}}}\"\n---\nHi.");
        reader.render(&compiled(&[("m.md", &file)]).unwrap()).unwrap().fallback
    };
    assert!(subject("profile.first_name | default"), "a subject counts as the text does");
    assert!(!subject("with.subject | default"));
}

/// The words of a template are known again under another name, and those of its layout are a part of them.
#[test]
fn a_copy_says_the_same_and_another_layout_does_not() {
    let own = "---\nsubject: Hello\n---\n{% extends \"_layout.mjml\" %}{% block body %}<mj-text>Hi.</mj-text>{% endblock %}\n";
    let of = |name: &str, files: &[(&str, &str)]| {
        let name = model::TemplateName::known(name);
        let compiled = message::compile(&crate::given::sources(&with_layout(files)), &name, &locales());
        let compiled = compiled.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        (compiled.words().to_owned(), compiled.digest().to_owned())
    };
    let both = [("m.mjml", own), ("m_copy.mjml", own)];
    let ((words, digest), (copied, other)) = (of("m", &both), of("m_copy", &both));
    assert_eq!(words, copied);
    assert_ne!(digest, other);
    let changed = own.replace("Hi.", "Hey.");
    assert_ne!(of("m", &[("m.mjml", &changed)]).0, words);
    let german = [("m.mjml", own), ("m.de.mjml", &*changed)];
    assert_ne!(of("m", &german).0, words);
    assert_ne!(of("m", &[("m.mjml", own), ("_layout.mjml", &LAYOUT.replace("Nothing.", "None."))]).0, words);
}
