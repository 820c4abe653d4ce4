//! Finds the places of a source file that can be changed, and writes the file with all changes in it, each behind a switch.
//!
//! A changed operator, a negated condition, a statement that is left out, a function that returns at once. Code that only
//! tests build, constants, types, patterns and the arguments of macros stay as they are.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, ReturnType, Stmt, Type, UnOp};

use crate::house::{attributes, is_for_tests};

/// A change.
#[derive(Debug, Clone)]
pub(super) struct Mutant {
    /// Its key, equal in every run: file, function and change.
    pub(super) key: String,
    /// The code that replaces the original.
    code: String,
}

/// A place, with the changes that can be made there.
#[derive(Debug)]
pub(super) struct Site {
    range: Range<usize>,
    kind: Kind,
    pub(super) mutants: Vec<Mutant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Expression,
    Statement,
    /// Before the first statement of a function.
    Start,
}

/// The text with switches, and the position of each mutant's code, by its number.
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) codes: Vec<(u32, Range<usize>)>,
    /// Whole places, with the numbers of their mutants.
    pub(super) places: Vec<(Vec<u32>, Range<usize>)>,
}

/// The places of a file, with the mutants that are `wanted`. `shown` is the file's name in keys.
pub(super) fn find(text: &str, shown: &str, wanted: impl Fn(&String) -> bool) -> Result<Vec<Site>> {
    let file = syn::parse_file(text).with_context(|| format!("cannot parse {shown}"))?;
    let mut finder = Finder { text, shown, function: Vec::new(), sites: Vec::new(), keys: BTreeSet::new() };
    finder.visit_file(&file);
    let mut sites = finder.sites;
    sites.iter_mut().for_each(|site| site.mutants.retain(|mutant| wanted(&mutant.key)));
    sites.retain(|site| !site.mutants.is_empty());
    Ok(sites)
}

/// Finds a place that was written by hand: the only occurrence of `original` in `text`, regardless of white
/// space and comments.
pub(super) fn by_hand(text: &str, key: &str, original: &str, code: &str) -> Result<Site> {
    let wanted: Vec<&str> = original.split_whitespace().collect();
    let mut found = Vec::new();
    for (start, _) in text.match_indices(wanted.first().context("nothing is to be replaced")?) {
        let is_part_of_a_name =
            text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        let mut at = start;
        let matched = !is_part_of_a_name
            && wanted.iter().all(|word| {
                at += blank(&text[at..]);
                let matches = text[at..].starts_with(word);
                at += word.len();
                matches
            });
        if matched {
            found.push(start..at);
        }
    }
    let [range] = &found[..] else {
        anyhow::bail!("`{}` stands there {} times, not once", wanted.join(" "), found.len());
    };
    let is_statement = text[range.clone()].ends_with([';', '}']);
    let kind = if is_statement { Kind::Statement } else { Kind::Expression };
    let mutants = vec![Mutant { key: key.to_owned(), code: code.to_owned() }];
    Ok(Site { range: range.clone(), kind, mutants })
}

/// Bytes of white space and comments at the start of a text.
fn blank(text: &str) -> usize {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix("//") {
        rest = comment.split_once('\n').map_or("", |(_, behind)| behind).trim_start();
    }
    text.len() - rest.len()
}

/// Writes the file with its changes, except those in `left_out`. Mutants are numbered from `first` on, place
/// by place.
pub(super) fn render(
    text: &str,
    mut sites: Vec<Site>,
    first: u32,
    switch: &str,
    left_out: &BTreeSet<String>,
) -> (Rendered, Vec<String>) {
    // Outer places come before inner ones. Of two equal places, the one that was found first is the outer
    // one.
    sites.sort_by_key(|site| (site.range.start, std::cmp::Reverse(site.range.end)));
    let mut keys = Vec::new();
    for site in &mut sites {
        site.mutants.retain(|mutant| !left_out.contains(&mutant.key));
        keys.extend(site.mutants.iter().map(|mutant| mutant.key.clone()));
    }
    sites.retain(|site| !site.mutants.is_empty());
    let numbers: Vec<u32> = sites
        .iter()
        .scan(first, |next, site| {
            let number = *next;
            *next += u32::try_from(site.mutants.len()).expect("few mutants");
            Some(number)
        })
        .collect();
    let mut rendered = Rendered { text: String::new(), codes: Vec::new(), places: Vec::new() };
    let mut writer = Writer { text, switch, sites: &sites, numbers: &numbers, rendered: &mut rendered };
    writer.write(0..text.len(), &mut 0);
    (rendered, keys)
}

struct Writer<'a> {
    text: &'a str,
    switch: &'a str,
    sites: &'a [Site],
    numbers: &'a [u32],
    rendered: &'a mut Rendered,
}

impl Writer<'_> {
    /// Writes a part of the text with the places in it, from place `next` on.
    fn write(&mut self, range: Range<usize>, next: &mut usize) {
        let mut at = range.start;
        while let Some(site) = self.sites.get(*next).filter(|site| site.range.start < range.end) {
            if site.range.end > range.end {
                // Only a place that was written by hand can overlap another; the other one is kept.
                *next += 1;
                continue;
            }
            self.rendered.text.push_str(&self.text[at..site.range.start]);
            let number = self.numbers[*next];
            *next += 1;
            self.write_site(site, number, next);
            at = site.range.end;
        }
        self.rendered.text.push_str(&self.text[at..range.end]);
    }

    fn write_site(&mut self, site: &Site, first: u32, next: &mut usize) {
        let begin = self.rendered.text.len();
        self.push(if site.kind == Kind::Expression { "(" } else { " " });
        for (number, mutant) in (first..).zip(&site.mutants) {
            self.push(&format!("if {}::is({number}) {{ ", self.switch));
            let code = self.rendered.text.len();
            self.push(&mutant.code);
            self.rendered.codes.push((number, code..self.rendered.text.len()));
            self.push(if site.kind == Kind::Start { " } " } else { " } else " });
        }
        match site.kind {
            Kind::Start => {}
            Kind::Expression | Kind::Statement => {
                self.push("{ ");
                self.write(site.range.clone(), next);
                self.push(if site.kind == Kind::Expression { " })" } else { " }" });
            }
        }
        let numbers = (first..).take(site.mutants.len()).collect();
        self.rendered.places.push((numbers, begin..self.rendered.text.len()));
    }

    fn push(&mut self, text: &str) {
        self.rendered.text.push_str(text);
    }
}

struct Finder<'a> {
    text: &'a str,
    shown: &'a str,
    /// Types and functions around.
    function: Vec<String>,
    sites: Vec<Site>,
    keys: BTreeSet<String>,
}

impl Finder<'_> {
    fn text_of(&self, part: &impl Spanned) -> String {
        self.text[part.span().byte_range()].to_owned()
    }

    fn add(&mut self, range: Range<usize>, kind: Kind, changes: Vec<(String, String)>) {
        let mut mutants = Vec::new();
        for (change, code) in changes {
            let change: String = change.split_whitespace().collect::<Vec<_>>().join(" ");
            let base = format!("{} {}: {change}", self.shown, self.function.join("::"));
            let key = (1..)
                .map(|count| if count == 1 { base.clone() } else { format!("{base} #{count}") })
                .find(|key| !self.keys.contains(key))
                .expect("endless numbers");
            self.keys.insert(key.clone());
            mutants.push(Mutant { key, code });
        }
        if !mutants.is_empty() {
            self.sites.push(Site { range, kind, mutants });
        }
    }

    fn add_function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let start = block.span().byte_range().start + 1;
        let changes = returned(&signature.output)
            .into_iter()
            .map(|value| (format!("return {value}").trim().to_owned(), format!("return {value};")))
            .collect();
        self.add(start..start, Kind::Start, changes);
    }

    fn add_binary(&mut self, binary: &syn::ExprBinary) {
        let others: &[&str] = match binary.op {
            BinOp::Lt(_) => &["<=", ">="],
            BinOp::Le(_) => &["<", ">"],
            BinOp::Gt(_) => &[">=", "<="],
            BinOp::Ge(_) => &[">", "<"],
            BinOp::Eq(_) => &["!="],
            BinOp::Ne(_) => &["=="],
            BinOp::And(_) => &["||"],
            BinOp::Or(_) => &["&&"],
            BinOp::Add(_) => &["-"],
            BinOp::Sub(_) | BinOp::Mul(_) => &["+"],
            BinOp::Div(_) => &["*"],
            BinOp::Rem(_) => &["/"],
            BinOp::BitAnd(_) => &["|"],
            BinOp::BitOr(_) => &["&"],
            BinOp::Shl(_) => &[">>"],
            BinOp::Shr(_) => &["<<"],
            _ => return,
        };
        let [left, right, operator] =
            [self.text_of(&binary.left), self.text_of(&binary.right), self.text_of(&binary.op)];
        let changes = others
            .iter()
            .map(|other| {
                let change = format!("{left} [{operator} to {other}] {right}");
                (change, format!("({left}) {other} ({right})"))
            })
            .collect();
        self.add(binary.span().byte_range(), Kind::Expression, changes);
    }

    /// A condition that is no comparison is negated.
    fn add_condition(&mut self, condition: &Expr) {
        let is_covered = matches!(condition, Expr::Binary(_) | Expr::Unary(_) | Expr::Let(_) | Expr::Lit(_));
        if !is_covered {
            let text = self.text_of(condition);
            let changes = vec![(format!("not {text}"), format!("!({text})"))];
            self.add(condition.span().byte_range(), Kind::Expression, changes);
        }
    }

    fn add_statement(&mut self, expression: &Expr, range: Range<usize>) {
        let text = self.text[range.clone()].to_owned();
        let mut changes = vec![(format!("without {text}"), String::new())];
        if let Expr::Binary(binary) = expression {
            let other = match binary.op {
                BinOp::AddAssign(_) => "-=",
                BinOp::SubAssign(_) => "+=",
                BinOp::BitOrAssign(_) => "&=",
                BinOp::BitAndAssign(_) => "|=",
                _ => return self.add(range, Kind::Statement, changes),
            };
            let [left, right] = [self.text_of(&binary.left), self.text_of(&binary.right)];
            changes.push((format!("{text} [{other}]"), format!("{left} {other} {right};")));
        }
        self.add(range, Kind::Statement, changes);
    }
}

/// Values that a function may return instead of its result.
fn returned(output: &ReturnType) -> Vec<&'static str> {
    let ReturnType::Type(_, kind) = output else { return vec![""] };
    let Type::Path(path) = &**kind else { return Vec::new() };
    let Some(last) = path.path.segments.last() else { return Vec::new() };
    let text = quote_free(kind);
    match last.ident.to_string().as_str() {
        "bool" => vec!["true", "false"],
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => vec!["0", "1"],
        "Option" => vec!["None"],
        "Result" if text.starts_with("Result < () >") => vec!["Ok(())"],
        "Result" if text.starts_with("Result < bool >") => vec!["Ok(true)", "Ok(false)"],
        "Duration" => vec!["std::time::Duration::ZERO"],
        _ => Vec::new(),
    }
}

/// The type, spelled from the compiler's tokens.
fn quote_free(kind: &Type) -> String {
    kind.span()
        .source_text()
        .unwrap_or_default()
        .replace('<', " < ")
        .replace('>', " > ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace("( )", "()")
}

/// Whether an expression binds names for what follows it.
fn binds(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let constant = matches!(item, syn::Item::Const(_) | syn::Item::Static(_) | syn::Item::Macro(_));
        if !constant && !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = self.text_of(&item.self_ty);
        self.function.push(name.split(['<', ' ']).next().unwrap_or_default().to_owned());
        visit::visit_item_impl(self, item);
        self.function.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.sig.constness.is_none() {
            self.function.push(item.sig.ident.to_string());
            self.add_function(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
            self.function.pop();
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let is_skipped = item.sig.constness.is_some() || item.attrs.iter().any(is_for_tests);
        if !is_skipped {
            self.function.push(item.sig.ident.to_string());
            self.add_function(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
            self.function.pop();
        }
    }

    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }
    fn visit_variant(&mut self, _: &'ast syn::Variant) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expression, Some(end)) = statement {
            let deletable = match expression {
                Expr::Call(_) | Expr::MethodCall(_) | Expr::Assign(_) => true,
                Expr::Binary(binary) => self.text_of(&binary.op).ends_with('='),
                _ => false,
            };
            if deletable {
                let range = expression.span().byte_range().start..end.span().byte_range().end;
                self.add_statement(expression, range);
            }
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if !binds(&binary.left) && !binds(&binary.right) {
            self.add_binary(binary);
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        if matches!(unary.op, UnOp::Not(_)) {
            let text = self.text_of(&unary.expr);
            let changes = vec![(format!("[no !] {text}"), text)];
            self.add(unary.span().byte_range(), Kind::Expression, changes);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.add_condition(&expression.cond);
        visit::visit_expr_if(self, expression);
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        self.add_condition(&expression.cond);
        visit::visit_expr_while(self, expression);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_stands_behind_its_switch_and_nested_ones_stay_apart() {
        let text = "fn f(a: u32) -> bool { if let Some(x) = g() && x < a + 1 { h(); } a == 2 }";
        let sites = find(text, "f.rs", |_| true).expect("a file");
        let (rendered, keys) =
            render(text, sites, 0, "m", &BTreeSet::from(["f.rs f: return false".to_owned()]));
        assert_eq!(
            keys,
            [
                "f.rs f: return true",
                "f.rs f: x [< to <=] a + 1",
                "f.rs f: x [< to >=] a + 1",
                "f.rs f: a [+ to -] 1",
                "f.rs f: without h();",
                "f.rs f: a [== to !=] 2",
            ]
        );
        let expected = "fn f(a: u32) -> bool { if m::is(0) { return true; }  if let Some(x) = g() && (if m::is(1) { (x) <= (a + 1) } \
                        else if m::is(2) { (x) >= (a + 1) } else { x < (if m::is(3) { (a) - (1) } else { a + 1 }) }) { \
                        if m::is(4) {  } else { h(); } } (if m::is(5) { (a) != (2) } else { a == 2 }) }";
        assert_eq!(
            rendered.text.split_whitespace().collect::<String>(),
            expected.split_whitespace().collect::<String>()
        );
        syn::parse_file(&rendered.text).expect("it is still Rust");
    }

    #[test]
    fn what_is_written_by_hand_is_found_whatever_the_white_space() {
        let text = "fn f() {\n    a\n        .b();\n}";
        let site = by_hand(text, "k", "a .b();", "c();").expect("once");
        assert_eq!(&text[site.range.clone()], "a\n        .b();");
        assert!(by_hand("a();\n// words\n  // more\n  b();", "k", "a(); b();", "c();").is_ok());
        assert!(by_hand("a.b(); a.b();", "k", "a.b();", "").is_err());
        assert!(by_hand(text, "k", "no", "").is_err());
        assert!(by_hand("a.b(); da.b(); c.a.b();", "k", "a.b();", "").is_ok());
    }

    #[test]
    fn constants_patterns_and_tests_stay_as_they_are() {
        let text = "const A: u32 = 1 + 2; const fn f() -> u32 { 1 + 2 } #[cfg(test)] fn g() { a + b; } \
                    fn h(x: [u8; 1 + 2]) -> T { match x { 3..=4 => [0; 1 + 1], _ => m!(1 + 2) } }";
        assert!(find(text, "f.rs", |_| true).expect("a file").is_empty());
    }
}
