//! What is wrong with a template is said before anything runs, all at once, with its place in the file the user wrote.

use message::{Mistake, Sources, compile};
use model::TemplateName;

use crate::given::{compiled, locales, sources};

/// `file:line:column+len code message | hint`, a warning with `~`.
fn shown(mistakes: &[Mistake]) -> Vec<String> {
    mistakes
        .iter()
        .map(|m| {
            let hint = m.hint.as_ref().map_or(String::new(), |hint| format!(" | {hint}"));
            format!(
                "{}{}:{}:{}+{} {} {}{hint}",
                if m.warning { "~" } else { "" },
                m.file,
                m.line,
                m.column,
                m.len,
                m.code,
                m.message
            )
        })
        .collect()
}

/// What is said of files.
fn said(files: &[(&str, &str)]) -> Vec<String> {
    match compiled(files) {
        Ok(compiled) => shown(compiled.warnings()),
        Err(mistakes) => shown(&mistakes),
    }
}

/// What is said of the third line of a text message.
fn of_text(text: &str) -> String {
    said(&[("m.txt", &format!("---\nsubject: s\n---\n{text}"))]).join("\n").replace("m.txt:4:", "")
}

#[test]
fn names_that_do_not_exist_are_told_with_what_was_meant() {
    for (text, expected) in [
        ("{{ porfile.name }}", "4+12 T0203 there is no `porfile` in a template | did you mean `profile`?"),
        (
            "a ä {{ first_name }}",
            "8+10 T0203 there is no `first_name` in a template | a column of the person is `profile.NAME`, what the segment saw is `entry.NAME`",
        ),
        ("{{ brand.name }}", "4+10 T0203 `brand` does not hold `name` | it holds title"),
        ("{{ playbook.titel }}", "4+14 T0203 `playbook` does not hold `titel` | did you mean `title`?"),
        (
            "{{ profile }}",
            "4+7 T0205 `profile` is not one value | name one of what it holds, as in `profile.NAME`",
        ),
        ("{{ acount.name }}", "4+11 T0203 there is no `acount` in a template | did you mean `account`?"),
        ("{{ step.nudge }}", "4+10 T0205 `step` has no parts"),
        (
            "{{ today_plus_4h }}",
            "4+13 T0203 there is no `today_plus_4h` in a template | a column of the person is `profile.NAME`, what the segment saw is `entry.NAME`",
        ),
        (
            "{% for x in [1] %}{{ y }}{% endfor %}",
            "22+1 T0203 there is no `y` in a template | a column of the person is `profile.NAME`, what the segment saw is `entry.NAME`",
        ),
        ("{{ profile.name | uper }}", "19+4 T0207 there is no filter `uper` | did you mean `upper`?"),
        (
            "{% if profile.x is defind %}{% endif %}",
            "20+6 T0207 there is no test `defind` | did you mean `defined`?",
        ),
        ("{{ now() }}", "4+3 T0207 there is no function `now`"),
        ("{{ skp('x') }}", "4+3 T0207 there is no function `skp` | did you mean `skip`?"),
        (
            "{{ profile.name.upper() }}",
            "17+5 T0207 there is no method `upper` | there is a filter: `| upper`",
        ),
        ("{{ profile.name | pprint }}", "19+6 T0207 there is no filter `pprint` | did you mean `split`?"),
        ("{{ debug() }}", "4+5 T0207 there is no function `debug`"),
    ] {
        assert_eq!(of_text(text), expected, "{text}");
    }
}

#[test]
fn what_is_not_built_yet_is_said_to_be_so() {
    for name in ["owner", "score", "lookup", "list", "row", "confirm_url"] {
        let expected = format!("4+{} T0204 `{name}` is not built yet", name.len());
        assert_eq!(of_text(&format!("{{{{ {name} }}}}")), expected);
    }
    assert_eq!(of_text("{{ lookup.products[entry.sku].name }}"), "4+15 T0204 `lookup` is not built yet");
}

#[test]
fn words_in_the_wrong_place_are_refused() {
    for (text, expected) in [
        ("{% set profile = 1 %}", "8+7 T0205 `profile` is a name of Drumbeat's own | choose another"),
        (
            "{% for step in [1] %}{% endfor %}",
            "8+4 T0205 `step` is a name of Drumbeat's own | choose another",
        ),
        (
            "{% set __drumbeat_reader = 1 %}",
            "8+17 T0205 `__drumbeat_reader` is a name of Drumbeat's own | choose another",
        ),
        ("{{ 'a' * 100000000 }}", "4+15 T0210 a text cannot be repeated | write it out, or use a loop"),
        ("{% for x in range(100000000) %}{% endfor %}", "13+16 T0210 a range holds at most 10000 numbers"),
        (
            "{{ skip(profile.email) }}",
            "4+19 T0211 `skip` takes its reason, a text between quotes | `{{ skip(\"sold out\") }}`; it is written into the log, so it holds nothing about the person",
        ),
        (
            "{{ now | date('DD.MM.YYYY') }}",
            "10+18 T0211 `DD` is not part of a date's pattern | letters are d dd EEE EEEE M MM MMM MMMM yy yyyy H HH h mm ss a; other words stand in quotes: \"d 'de' MMMM\"",
        ),
        ("{{ profile.x | money('euro') }}", "16+13 T0211 a currency is its three letters | `money(\"EUR\")`"),
        (
            "{% autoescape false %}{% endautoescape %}",
            "4+35 T0212 values are always written as the place they stand in needs it | for HTML that you trust, write `{{ value | safe }}`",
        ),
        (
            "{% from '_m.txt' import x %}",
            "4+22 T0206 macros of another file cannot be used: files are joined before they run | write the macro in this file, or use `{% include %}`",
        ),
        ("{{ self.body() }}", "4+4 T0206 a block cannot be used twice | use a macro, or `{% include %}`"),
        (
            "{{ profile.html | safe }}",
            "~19+4 T0213 this value goes into the message as HTML, whatever it holds | leave `safe` out unless nobody but you can write it",
        ),
    ] {
        assert_eq!(of_text(text).replace("~m.txt:4:", "~"), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    assert_eq!(
        said(&[("m.txt", "---\nsubject: s\n---\n\nHello {{ profile.name }\n")]),
        ["m.txt:5:23+1 T0201 unexpected `}`, expected end of variable block"]
    );
    assert_eq!(
        said(&[("m.txt", "---\nsubject: s\n---\n{% if profile.x %}\n")]),
        ["m.txt:5:17+2 T0201 unexpected end of input, expected end of block"]
            .map(|m| m.replace("5:17", "4:17"))
    );
    assert_eq!(
        said(&[("m.txt", "---\nsubject: s\n---\n{% iff profile.x %}\n")]),
        ["m.txt:4:4+3 T0201 unknown statement iff"]
    );
    assert_eq!(
        said(&[("m.txt", "---\nsubject: \"{{ profile.name\"\n---\nx")]),
        ["m.txt:2:14+12 T0201 unexpected end of input, expected end of variable block"]
            .map(|m| m.replace("14+12", "22+4"))
    );
    assert_eq!(said(&[("m.txt", "---\nsujbect: s\n---\nx")]), ["m.txt:1:1+3 T0202 the message has no subject | begin the file with front matter: a line `---`, `subject: \"...\"`, a line `---`", "m.txt:2:1+7 T0202 the front matter has no key `sujbect` | did you mean `subject`?"].iter().skip(1).copied().collect::<Vec<_>>());
    assert_eq!(said(&[("m.txt", "Hello")]), ["m.txt:1:1+3 T0202 the message has no subject | begin the file with front matter: a line `---`, `subject: \"...\"`, a line `---`"].map(|m| m.replace("1:1+3", "1:1+1")));
    assert_eq!(
        said(&[("m.txt", "---\nsubject: \"{{ porfile.x }}\"\npreheader: {{ x }}\n---\nx")])[0],
        "m.txt:2:14+9 T0203 there is no `porfile` in a template | did you mean `profile`?"
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let said = said(&[
        (
            "m.mjml",
            "---\nsubject: \"{{ a }}\"\n---\n{% extends \"_l.mjml\" %}{% block body %}{{ b }}{{ c | d2 }}{% endblock %}",
        ),
        ("m.de.mjml", "---\nsubject: s\n---\n{{ e }}"),
        ("_l.mjml", "<mjml>{{ f }}{% block body %}{% endblock %}</mjml>"),
    ]);
    assert_eq!(said.len(), 6, "{said:#?}");
}

fn page(body: &str) -> Vec<String> {
    said(&[("m.mjml", &format!("---\nsubject: s\n---\n<mjml><mj-body>\n{body}\n</mj-body></mjml>"))])
}

#[test]
fn mjml_is_checked_before_the_converter_drops_what_it_does_not_know() {
    let column = |inner: &str| format!("<mj-section><mj-column>\n{inner}\n</mj-column></mj-section>");
    for (body, expected) in [
        (
            column("<mj-txt>x</mj-txt>"),
            "m.mjml:6:1+7 T0301 MJML has no `<mj-txt>` | did you mean `<mj-text>`?",
        ),
        (
            "<mj-text>x</mj-text>".to_owned(),
            "m.mjml:5:1+8 T0301 `<mj-text>` cannot stand in `<mj-body>` | `<mj-body>` holds `<mj-section>` `<mj-wrapper>` `<mj-hero>` `<mj-raw>`",
        ),
        (
            column("just text"),
            "m.mjml:6:1+9 T0301 text cannot stand in `<mj-column>` | put it into `<mj-text>`",
        ),
        (
            column("{{ profile.id }}"),
            "m.mjml:6:1+16 T0301 text cannot stand in `<mj-column>` | put it into `<mj-text>`",
        ),
        (
            column("<p>x</p>"),
            "m.mjml:6:1+2 T0301 `<p>` cannot stand in `<mj-column>` | `<mj-column>` holds `<mj-accordion>` `<mj-button>` `<mj-carousel>` `<mj-divider>` `<mj-image>` `<mj-navbar>` `<mj-raw>` `<mj-social>` `<mj-spacer>` `<mj-table>` `<mj-text>`",
        ),
        (
            column("<mj-text><mj-button>x</mj-button></mj-text>"),
            "m.mjml:6:10+10 T0301 `<mj-button>` cannot stand in `<mj-text>` | `<mj-text>` holds text and HTML",
        ),
        (column("<mj-text>x"), "m.mjml:6:1+8 T0301 `<mj-text>` is not closed | `</mj-text>` closes it"),
        (column("<mj-text>x <b>y</mj-text>"), "m.mjml:6:12+2 T0301 `<b>` is not closed | `</b>` closes it"),
        (column("<mj-text>x</b></mj-text>"), "m.mjml:6:11+4 T0301 `</b>` closes nothing"),
        (
            "<mj-wrapper><!-- note --></mj-wrapper>".to_owned(),
            "m.mjml:5:13+13 T0301 a comment here would end one that MJML writes for Outlook | put it into a section, or write `{# ... #}`",
        ),
        (
            "<mj-include path=\"a.mjml\" />".to_owned(),
            "m.mjml:5:1+11 T0301 `mj-include` is not available | use `{% include \"_part.mjml\" %}`",
        ),
        (
            column("<mj-text {% if profile.x %}color=\"red\"{% endif %}>x</mj-text>"),
            "m.mjml:6:10+18 T0302 a tag cannot stand between the attributes of an element | put it into the value of one, or put the whole element between `{% if %}` and `{% endif %}`",
        ),
    ] {
        assert_eq!(page(&body).first().map(String::as_str), Some(expected), "{body}");
    }
    assert_eq!(
        said(&[("m.mjml", "---\nsubject: s\n---\n<p>Hello</p>")])[0],
        "m.mjml:4:1+2 T0301 `<p>` stands outside of `<mjml>`"
    );
    assert_eq!(
        said(&[("m.mjml", "---\nsubject: s\n---\nHello")]),
        [
            "m.mjml:4:1+1 T0301 the document is one `<mjml>` element | begin with `<mjml>`, or extend a layout that does"
        ]
    );
    assert_eq!(
        page(&column("<mj-text>a<br>b<br/>c &nbsp; &amp; d</mj-text><mj-raw><!-- x --></mj-raw>")),
        [""; 0]
    );
}

#[test]
fn tags_that_would_be_lost_are_told() {
    let said = said(&[(
        "m.mjml",
        "---\nsubject: s\n---\n<mjml><mj-head><mj-attributes>\n{% if profile.x %}<mj-all color=\"red\" />{% endif %}\n</mj-attributes></mj-head><mj-body></mj-body></mjml>",
    )]);
    assert_eq!(
        said,
        [
            "m.mjml:5:1+18 T0301 a tag cannot stand here | put it around whole elements of the body, or inside a text"
        ]
    );
    let said = page(
        "<mj-section><mj-column><mj-spacer height=\"{{ profile.x }}\" unknown=\"{{ profile.y }}\" /></mj-column></mj-section>",
    );
    assert!(said.iter().any(|m| m.starts_with("~m.mjml:5") && m.contains("T0303")), "{said:#?}");
}

#[test]
fn files_that_are_not_there_or_do_not_fit_are_told() {
    let front = "---\nsubject: s\n---\n";
    let one = |body: &str, others: &[(&str, &str)]| {
        let text = format!("{front}{body}");
        let mut files = vec![("m.html", text.as_str())];
        files.extend_from_slice(others);
        said(&files).join("\n")
    };
    for (body, others, expected) in [
        (
            "{% extends \"_laoyut.html\" %}",
            vec![("_layout.html", "x")],
            "m.html:4:1+28 T0208 there is no file templates/_laoyut.html | did you mean `_layout.html`?",
        ),
        (
            "{% include \"_f.html\" %}",
            vec![("_f.de.html", "x")],
            "m.html:4:1+23 T0208 there is no `_f.html` for other languages | add templates/_f.html, the one for all others",
        ),
        (
            "{% include profile.part %}",
            vec![],
            "m.html:4:1+26 T0206 which file this is must be known before anything runs | write its name between quotes: `\"_footer.mjml\"`. To choose, put each `{% include %}` into an `{% if %}`",
        ),
        (
            "{% extends \"_l.html\" %}\nHello",
            vec![("_l.html", "{% block a %}{% endblock %}")],
            "m.html:5:1+5 T0209 what stands outside the blocks is not shown | put it into a block of the layout, as in `{% block body %}`",
        ),
        (
            "{% extends \"_l.html\" %}{% block boddy %}x{% endblock %}",
            vec![("_l.html", "{% block body %}{% endblock %}")],
            "m.html:4:24+17 T0209 _l.html has no block `boddy` | did you mean `body`?",
        ),
        (
            "{% extends \"_l.html\" %}{% block a %}{{ super() }}{% endblock %}",
            vec![("_l.html", "{% block a %}{{ super() }}{% endblock %}")],
            "_l.html:1:14+13 T0209 no layout says anything in block `a` | leave `super()` out",
        ),
        (
            "{% extends \"_a.html\" %}",
            vec![("_a.html", "{% extends \"_b.html\" %}"), ("_b.html", "{% extends \"_a.html\" %}")],
            "_b.html:1:1+23 T0206 the layouts extend each other in a circle",
        ),
        (
            "{% include \"_a.html\" %}",
            vec![("_a.html", "{% include \"_a.html\" %}")],
            "_a.html:1:1+23 T0206 the file includes itself",
        ),
        (
            "{% if profile.x %}{% extends \"_a.html\" %}{% endif %}",
            vec![("_a.html", "x")],
            "m.html:4:19+23 T0206 a file extends one layout, the same for everybody | put `{% extends %}` first, outside of all other tags",
        ),
        (
            "{% include \"_a.mjml\" %}",
            vec![("_a.mjml", "x")],
            "m.html:4:1+23 T0206 a `.mjml` file cannot stand in a `.html` file",
        ),
        (
            "x",
            vec![("m.md", "---\nsubject: s\n---\nx")],
            "m.md:0:0+0 T0103 m.md is the same message as m.html | keep one of the two",
        ),
        (
            "{% include \"_a.html\" %}",
            vec![("_a.html", "---\nsubject: s\n---\nx")],
            "_a.html:2:1+1 T0202 a layout or part has no front matter | it belongs to the messages",
        ),
    ] {
        assert_eq!(one(body, &others), expected, "{body}");
    }
    let nothing = compile(&Sources::default(), &TemplateName::known("m"), &locales()).unwrap_err();
    assert_eq!(
        shown(&nothing),
        ["m.mjml:0:0+0 T0102 there is no template `m` | add templates/NAME.mjml, .html, .md or .txt"]
    );
    assert_eq!(shown(&sources(&[("M.mjml", ""), ("a.b.c.md", "")]).strays()).len(), 2);
}

#[test]
fn a_bomb_of_includes_is_refused() {
    let level = |n: usize| format!("{{% include \"_b{}.html\" %}}", n + 1).repeat(10);
    let mut files = vec![("m.html".to_owned(), format!("---\nsubject: s\n---\n{}", level(0)))];
    files.extend((1..8).map(|n| (format!("_b{n}.html"), level(n))));
    files.push(("_b8.html".to_owned(), "x".repeat(100)));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let said = said(&files);
    assert!(said[0].contains("T0210 the files include each other too often"), "{said:#?}");
}
