//! What a file of a template uses, and what in it cannot be right, found in the parsed file before anything runs.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, Macro, Stmt, UnaryOpKind};
use minijinja::machinery::{Span, parse, parse_expr};
use minijinja::syntax::SyntaxConfig;

use crate::mistake::{Mistake, line_column};
use crate::names;
use crate::{date, pieces};
use model::suggest::nearest;

/// A value that a template names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// The file's name in `templates/`.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In characters, root and name together.
    pub len: usize,
    /// `profile`, `account`, `entry`, `with`, `playbook`, `brand`, `unsubscribe_url`...
    pub root: String,
    /// What stands after the first dot; `None` where there is none, or where it is computed.
    pub name: Option<String>,
    /// Only asked about (`if`, `default`, `is defined`): it may be missing.
    pub guarded: bool,
}

/// A longer range would only burn fuel.
const RANGE_MAX: u64 = 10_000;

/// Writes `preset_` for `default`, and `p` for `d`, where what is asked for is the same for all readers, so that the engine can tell the two
/// apart. A text that cannot be read stays as it is.
pub(crate) fn tell_presets_apart(text: &mut String) {
    let found = look(Text { file: "", whole: text, text, from: 0, exact: true });
    for (at, name) in found.presets {
        let preset = names::PRESETS.iter().find(|(written, _)| *written == name).map(|(_, preset)| *preset);
        if let (Some(preset), true) = (preset, text.get(at..).is_some_and(|rest| rest.starts_with(&name))) {
            text.replace_range(at..at + name.len(), preset);
        }
    }
}

/// A text of a template that is checked: a whole file after its front matter, or a value in the front matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'s> {
    /// The file's name.
    pub(crate) file: &'s str,
    /// The whole file.
    pub(crate) whole: &'s str,
    /// The text.
    pub(crate) text: &'s str,
    /// Where it begins in the file.
    pub(crate) from: usize,
    /// Whether bytes of the text lie in the file one by one; if not, all is said of the beginning.
    pub(crate) exact: bool,
}

/// What was found in one text. Names are judged when those of all files are known: see [`Found::judge`].
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Names the text gives values to.
    pub(crate) assigned: BTreeSet<String>,
    mentions: Vec<Mention>,
    /// Filters that give a default to what is the same for all readers: where they stand in the text, and how they are written.
    presets: Vec<(usize, String)>,
    /// What is wrong in any case.
    pub(crate) mistakes: Vec<Mistake>,
}

/// A name, as it is used.
#[derive(Debug)]
struct Mention {
    name: String,
    how: How,
    guarded: bool,
    at: usize,
    len: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum How {
    /// Alone.
    Bare,
    /// `name.part`, or `name["part"]`.
    Part(String),
    /// `name[something]`.
    Computed,
    /// `name(...)`.
    Called,
}

/// Reads a text and looks at all of it.
pub(crate) fn look(text: Text<'_>) -> Found {
    let mut visitor = Visitor { text, found: Found::default() };
    match parse(text.text, text.file, SyntaxConfig::default()) {
        Ok(tree) => visitor.statement(&tree),
        Err(error) => {
            let mut mistake = pieces::syntax(text.file, text.whole, text.from, &error);
            if !text.exact {
                mistake = Mistake::at("T0201", text.file, text.whole, text.from, 1, mistake.message);
            }
            visitor.found.mistakes.push(mistake);
        }
    }
    visitor.found
}

impl Found {
    /// Whether a name is printed, and not only asked about.
    pub(crate) fn prints(&self, name: &str) -> bool {
        self.mentions.iter().any(|mention| mention.name == name && !mention.guarded)
    }

    /// Judges the names, knowing those that any file of the template gives values to.
    pub(crate) fn judge(
        &self,
        text: Text<'_>,
        assigned: &BTreeSet<String>,
        used: &mut Vec<Used>,
        mistakes: &mut Vec<Mistake>,
    ) {
        for mention in &self.mentions {
            if mention.how != How::Called && assigned.contains(&mention.name) {
                continue;
            }
            match judge(mention, assigned) {
                Ok(None) => {}
                Ok(Some(name)) => {
                    let (line, column) = line_column(text.whole, mention.at);
                    used.push(Used {
                        file: text.file.to_owned(),
                        line,
                        column,
                        len: mention.len,
                        root: mention.name.clone(),
                        name,
                        guarded: mention.guarded,
                    });
                }
                Err((code, message, hint)) => {
                    let mut mistake =
                        Mistake::at(code, text.file, text.whole, mention.at, mention.len, message);
                    mistake.hint = hint;
                    mistakes.push(mistake);
                }
            }
        }
    }
}

type Wrong = (&'static str, String, Option<String>);

/// Whether a name may be used so: the part of a root that is used, nothing to note, or what is wrong.
fn judge(mention: &Mention, assigned: &BTreeSet<String>) -> Result<Option<Option<String>>, Wrong> {
    let name = mention.name.as_str();
    let mean = |word: Option<&str>| word.map(|word| format!("did you mean `{word}`?"));
    if names::LATER.contains(&name) {
        return Err(("T0204", format!("`{name}` is not built yet"), None));
    }
    if mention.how == How::Called {
        if names::FUNCTIONS.contains(&name)
            || assigned.contains(name)
            || matches!(name, "caller" | "super" | "loop")
        {
            return Ok(None);
        }
        let known = names::FUNCTIONS.iter().copied().chain(assigned.iter().map(String::as_str));
        return Err(("T0207", format!("there is no function `{name}`"), mean(nearest(name, known))));
    }
    if name == "self" {
        return Err((
            "T0206",
            "a block cannot be used twice".to_owned(),
            Some("use a macro, or `{% include %}`".to_owned()),
        ));
    }
    if names::ENGINE.contains(&name) {
        return Ok(None);
    }
    if !names::is_root(name) {
        let known = names::ROOTS.iter().copied().chain(assigned.iter().map(String::as_str));
        let hint = mean(nearest(name, known)).unwrap_or_else(|| {
            "a column of the person is `profile.NAME`, what the segment saw is `entry.NAME`".to_owned()
        });
        return Err(("T0203", format!("there is no `{name}` in a template"), Some(hint)));
    }
    let holder = names::HOLDERS.contains(&name);
    match &mention.how {
        How::Bare if holder => {
            let message = format!("`{name}` is not one value");
            Err(("T0205", message, Some(format!("name one of what it holds, as in `{name}.NAME`"))))
        }
        How::Part(_) | How::Computed if !holder => Err(("T0205", format!("`{name}` has no parts"), None)),
        How::Part(part) => match names::HELD.iter().find(|(held, _)| *held == name) {
            Some((_, parts)) if !parts.contains(&part.as_str()) => {
                let hint = mean(nearest(part, parts.iter().copied()))
                    .unwrap_or_else(|| format!("it holds {}", parts.join(", ")));
                Err(("T0203", format!("`{name}` does not hold `{part}`"), Some(hint)))
            }
            _ => Ok(Some(Some(part.clone()))),
        },
        How::Bare | How::Computed | How::Called => Ok(Some(None)),
    }
}

struct Visitor<'s> {
    text: Text<'s>,
    found: Found,
}

impl Visitor<'_> {
    fn place(&self, span: Span) -> (usize, usize) {
        if self.text.exact {
            let (start, end) = (span.start_offset as usize, span.end_offset as usize);
            (self.text.from + start, end.saturating_sub(start).max(1))
        } else {
            (self.text.from, 1)
        }
    }

    fn mistake(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> &mut Mistake {
        let (at, len) = self.place(span);
        let mistake = Mistake::at(code, self.text.file, self.text.whole, at, len, message);
        self.found.mistakes.push(mistake);
        let last = self.found.mistakes.len() - 1;
        &mut self.found.mistakes[last]
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) => {}
            Stmt::EmitExpr(print) => match &print.expr {
                // The one place where it means something: the expansion puts the layout's own text there.
                Expr::Call(call)
                    if matches!(&call.expr, Expr::Var(var) if var.id == "super") && call.args.is_empty() => {}
                expr => self.expr(expr, false),
            },
            Stmt::ForLoop(each) => {
                self.assign(&each.target);
                self.expr(&each.iter, false);
                if let Some(filter) = &each.filter_expr {
                    self.expr(filter, true);
                }
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(condition) => {
                self.expr(&condition.expr, true);
                self.statements(&condition.true_body);
                self.statements(&condition.false_body);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.assign(target);
                    self.expr(value, false);
                }
                self.statements(&with.body);
            }
            Stmt::Set(set) => {
                self.assign(&set.target);
                self.expr(&set.expr, true);
            }
            Stmt::SetBlock(set) => {
                self.assign(&set.target);
                if let Some(filter) = &set.filter {
                    self.expr(filter, false);
                }
                self.statements(&set.body);
            }
            Stmt::AutoEscape(escape) => {
                let mistake = self.mistake(
                    "T0212",
                    escape.span(),
                    "values are always written as the place they stand in needs it",
                );
                mistake.hint = Some("for HTML that you trust, write `{{ value | safe }}`".to_owned());
                self.statements(&escape.body);
            }
            Stmt::FilterBlock(block) => {
                self.expr(&block.filter, false);
                self.statements(&block.body);
            }
            Stmt::Block(block) => self.statements(&block.body),
            Stmt::Import(import) => self.imported(import.span()),
            Stmt::FromImport(import) => self.imported(import.span()),
            Stmt::Extends(_) | Stmt::Include(_) => {}
            Stmt::Macro(declared) => self.declared(declared, declared.span()),
            Stmt::CallBlock(block) => {
                self.call(&block.call, block.call.span());
                for argument in &block.macro_decl.args {
                    self.assign(argument);
                }
                self.statements(&block.macro_decl.body);
            }
            Stmt::Do(call) => self.call(&call.call, call.call.span()),
        }
    }

    fn imported(&mut self, span: Span) {
        let mistake = self.mistake(
            "T0206",
            span,
            "macros of another file cannot be used: files are joined before they run",
        );
        mistake.hint = Some("write the macro in this file, or use `{% include %}`".to_owned());
    }

    fn declared(&mut self, declared: &Macro<'_>, span: Span) {
        self.name(declared.name, span);
        for argument in &declared.args {
            self.assign(argument);
        }
        for default in &declared.defaults {
            self.expr(default, true);
        }
        self.statements(&declared.body);
    }

    /// Notes what gets a value.
    fn assign(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(var) => self.name(var.id, var.span()),
            Expr::List(list) => list.items.iter().for_each(|item| self.assign(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.assign(item)),
            other => self.expr(other, true),
        }
    }

    fn name(&mut self, name: &str, span: Span) {
        let taken = names::is_root(name) || names::LATER.contains(&name) || names::FUNCTIONS.contains(&name);
        if taken || name.starts_with(names::OWN_PREFIX) || names::ENGINE.contains(&name) {
            self.mistake("T0205", span, format!("`{name}` is a name of Drumbeat's own")).hint =
                Some("choose another".to_owned());
        } else {
            self.found.assigned.insert(name.to_owned());
        }
    }

    fn mention(&mut self, name: &str, how: How, guarded: bool, span: Span) {
        let (at, len) = self.place(span);
        self.found.mentions.push(Mention { name: name.to_owned(), how, guarded, at, len });
    }

    /// Looks at an expression; `guarded`: it is only asked whether it is there and true.
    fn expr(&mut self, expr: &Expr<'_>, guarded: bool) {
        match expr {
            Expr::Var(var) => self.mention(var.id, How::Bare, guarded, var.span()),
            Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expr(&slice.expr, guarded);
                [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten()
                    .for_each(|bound| self.expr(bound, false));
            }
            Expr::UnaryOp(op) => self.expr(&op.expr, guarded || matches!(op.op, UnaryOpKind::Not)),
            Expr::BinOp(op) => {
                if matches!(op.op, BinOpKind::Mul) && (is_text(&op.left) || is_text(&op.right)) {
                    let mistake = self.mistake("T0210", op.span(), "a text cannot be repeated");
                    mistake.hint = Some("write it out, or use a loop".to_owned());
                }
                // What is compared or reckoned with must be there; what `and` and `or` ask about need not.
                let asks = matches!(op.op, BinOpKind::ScOr | BinOpKind::ScAnd);
                self.expr(&op.left, asks);
                self.expr(&op.right, asks && guarded);
            }
            Expr::Compare(compare) => {
                self.expr(&compare.expr, false);
                compare.ops.iter().for_each(|op| self.expr(&op.expr, false));
            }
            Expr::IfExpr(choice) => {
                self.expr(&choice.test_expr, true);
                self.expr(&choice.true_expr, guarded);
                if let Some(otherwise) = &choice.false_expr {
                    self.expr(otherwise, guarded);
                }
            }
            Expr::Filter(filter) => self.filter(filter, filter.span(), guarded),
            Expr::Test(test) => {
                if !names::TESTS.contains(&test.name) {
                    let hint = nearest(test.name, names::TESTS.iter().copied())
                        .map(|word| format!("did you mean `{word}`?"));
                    self.mistake("T0207", test.span(), format!("there is no test `{}`", test.name)).hint =
                        hint;
                }
                self.expr(&test.expr, guarded || matches!(test.name, "defined" | "undefined" | "none"));
                self.arguments(&test.args);
            }
            Expr::GetAttr(get) => match &get.expr {
                Expr::Var(var) => {
                    let span = Span { end_offset: get.span().end_offset, ..var.span() };
                    self.mention(var.id, How::Part(get.name.to_owned()), guarded, span);
                }
                inner => self.expr(inner, guarded),
            },
            Expr::GetItem(get) => {
                match (&get.expr, constant_text(&get.subscript_expr)) {
                    (Expr::Var(var), Some(part)) => {
                        self.mention(var.id, How::Part(part), guarded, get.span())
                    }
                    (Expr::Var(var), None) => self.mention(var.id, How::Computed, guarded, var.span()),
                    (inner, _) => self.expr(inner, guarded),
                }
                self.expr(&get.subscript_expr, false);
            }
            Expr::Call(call) => self.call(call, call.span()),
            Expr::List(list) => list.items.iter().for_each(|item| self.expr(item, guarded)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.expr(item, guarded)),
            Expr::Map(map) => map.keys.iter().chain(&map.values).for_each(|item| self.expr(item, guarded)),
        }
    }

    fn filter(&mut self, filter: &Filter<'_>, span: Span, guarded: bool) {
        let name = filter.name;
        if !names::FILTERS.contains(&name) {
            let hint =
                nearest(name, names::FILTERS.iter().copied()).map(|word| format!("did you mean `{word}`?"));
            let span =
                Span { end_offset: span.start_offset + u32::try_from(name.len()).unwrap_or(1), ..span };
            self.mistake("T0207", span, format!("there is no filter `{name}`")).hint = hint;
        }
        let first = filter.args.first().and_then(|argument| match argument {
            CallArg::Pos(expr) => constant_text(expr),
            _ => None,
        });
        match (name, first) {
            ("date", Some(pattern)) => {
                if let Err(wrong) = date::Pattern::parse(&pattern) {
                    self.mistake("T0211", span, wrong.to_string()).hint = Some(date::HINT.to_owned());
                }
            }
            ("money", Some(code)) if !crate::filters::is_currency(&code) => {
                self.mistake("T0211", span, "a currency is its three letters").hint =
                    Some("`money(\"EUR\")`".to_owned());
            }
            ("safe", _) if filter.expr.as_ref().is_some_and(|expr| !is_text(expr)) => {
                let mistake = self.mistake(
                    "T0213",
                    span,
                    "this value goes into the message as HTML, whatever it holds",
                );
                mistake.hint = Some("leave `safe` out unless nobody but you can write it".to_owned());
                mistake.warning = true;
            }
            _ => {}
        }
        let is_preset = filter.expr.as_ref().and_then(root).is_some_and(names::is_the_same_for_all);
        if is_preset && matches!(name, "default" | "d") && self.text.exact {
            self.found.presets.push((span.start_offset as usize, name.to_owned()));
        }
        if let Some(expr) = &filter.expr {
            self.expr(
                expr,
                matches!(name, "default" | "d") || (guarded && !matches!(name, "date" | "number" | "money")),
            );
        }
        self.arguments(&filter.args);
    }

    fn call(&mut self, call: &Call<'_>, span: Span) {
        match &call.expr {
            Expr::Var(var) => {
                match var.id {
                    "skip" if !matches!(call.args.as_slice(), [CallArg::Pos(why)] if constant_text(why).is_some_and(|why| !why.trim().is_empty())) => {
                        let mistake = self.mistake("T0211", span, "`skip` takes its reason, a text between quotes");
                        mistake.hint = Some("`{{ skip(\"sold out\") }}`; it is written into the log, so it holds nothing about the person".to_owned());
                    }
                    "range" if call.args.iter().any(|argument| matches!(argument, CallArg::Pos(Expr::Const(value)) if u64::try_from(value.value.clone()).is_ok_and(|count| count > RANGE_MAX))) => {
                        self.mistake("T0210", span, format!("a range holds at most {RANGE_MAX} numbers"));
                    }
                    "super" => {
                        let mistake = self.mistake("T0206", span, "`super()` stands alone, between `{{` and `}}`");
                        mistake.hint = Some("`{{ super() }}`".to_owned());
                    }
                    _ => {}
                }
                self.mention(var.id, How::Called, false, var.span());
            }
            Expr::GetAttr(get) => match &get.expr {
                Expr::Var(var) if var.id == "loop" => {}
                Expr::Var(var) if var.id == "self" => self.mention("self", How::Bare, false, var.span()),
                inner => {
                    let name_at = get
                        .span()
                        .end_offset
                        .saturating_sub(u32::try_from(get.name.len()).unwrap_or_default());
                    let span = Span { start_offset: name_at, ..get.span() };
                    let mistake = self.mistake("T0207", span, format!("there is no method `{}`", get.name));
                    mistake.hint = Some(match nearest(get.name, names::FILTERS.iter().copied()) {
                        Some(filter) => format!("there is a filter: `| {filter}`"),
                        None => "values have filters, as in `| upper`".to_owned(),
                    });
                    self.expr(inner, false);
                }
            },
            inner => self.expr(inner, false),
        }
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(expr)
                | CallArg::Kwarg(_, expr)
                | CallArg::PosSplat(expr)
                | CallArg::KwargSplat(expr) => self.expr(expr, false),
            }
        }
    }
}

/// What a value is a part of: `with` in `with.subject`, and in `with.subject | trim`.
fn root<'e>(expr: &'e Expr<'_>) -> Option<&'e str> {
    match expr {
        Expr::Var(var) => Some(var.id),
        Expr::GetAttr(get) => root(&get.expr),
        Expr::GetItem(get) => root(&get.expr),
        Expr::Filter(filter) => filter.expr.as_ref().and_then(root),
        Expr::Const(_)
        | Expr::Slice(_)
        | Expr::UnaryOp(_)
        | Expr::BinOp(_)
        | Expr::Compare(_)
        | Expr::IfExpr(_)
        | Expr::Test(_)
        | Expr::Call(_)
        | Expr::List(_)
        | Expr::Tuple(_)
        | Expr::Map(_) => None,
    }
}

fn constant_text(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Const(value) => value.value.as_str().map(str::to_owned),
        _ => None,
    }
}

fn is_text(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::Const(value) if value.value.as_str().is_some())
}

/// The text in `{% extends "..." %}`; the texts in `{% include ["...", "..."] %}`, and whether none need be there.
pub(crate) fn static_names(inner: &str) -> Option<(Vec<String>, bool)> {
    let rest = inner.trim_start_matches("extends").trim_start_matches("include").trim();
    let rest = ["with context", "without context"]
        .iter()
        .find_map(|ending| rest.strip_suffix(ending))
        .unwrap_or(rest)
        .trim();
    let (rest, may_miss) = match rest.strip_suffix("ignore missing") {
        Some(rest) => (rest.trim(), true),
        None => (rest, false),
    };
    let names = match parse_expr(rest).ok()? {
        Expr::List(list) => list.items.iter().map(constant_text).collect::<Option<Vec<_>>>()?,
        expr => vec![constant_text(&expr)?],
    };
    (!names.is_empty()).then_some((names, may_miss))
}
