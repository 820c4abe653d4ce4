//! Reads the modules of a crate and what each file of them names.
//!
//! It follows a name to the file that defines it: through the parent's re-export of a child, but not through
//! a glob. It leaves out code that only tests build.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, UseTree, Visibility};

/// A file of the crate.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// The files whose items it names.
    pub(super) edges: BTreeSet<String>,
    /// How often it names a kind of ring.
    pub(super) kinds: usize,
    /// How often it names libc.
    pub(super) libc: usize,
}

/// A path from the crate's root.
type Route = Vec<String>;

/// A module: a file or a part of one.
#[derive(Debug, Default)]
struct Scope {
    /// The module whose file has it.
    file: Route,
    /// Names that `use` has brought in, with their paths.
    names: HashMap<String, Route>,
    /// Names that are re-exported.
    public: BTreeSet<String>,
    /// Paths as written, and whether they are re-exported.
    paths: Vec<(Route, bool)>,
}

/// Enums whose variants are the kinds of ring.
const KINDS: [&str; 2] = ["ReadRing", "WriteRing"];

/// Conditions under which only tests build something.
const TESTING: [&str; 3] = ["test", "loom", "fuzzing"];

/// Reads all modules of the crate whose root is `folder/lib.rs`.
pub(super) fn read(folder: &Path) -> Result<BTreeMap<String, Module>> {
    let mut scopes = BTreeMap::new();
    read_file(folder, &folder.join("lib.rs"), Vec::new(), &mut scopes)?;
    let mut modules: BTreeMap<String, Module> = BTreeMap::new();
    for (at, scope) in &scopes {
        let module = modules.entry(shown(&scope.file)).or_default();
        for (path, for_others) in &scope.paths {
            module.kinds += usize::from(path.windows(2).any(names_a_kind));
            module.libc += usize::from(path.first().is_some_and(|first| first == "libc"));
            let Some(route) = rooted(&scopes, at, path) else { continue };
            // A parent re-exports items of its children; that alone does not make it depend on them.
            if *for_others && route.starts_with(at) {
                continue;
            }
            let target = file_of(&scopes, &route);
            if target != scope.file {
                module.edges.insert(shown(&target));
            }
        }
    }
    Ok(modules)
}

fn shown(route: &[String]) -> String {
    if route.is_empty() { "lib".to_owned() } else { route.join("/") }
}

fn names_a_kind(pair: &[String]) -> bool {
    KINDS.contains(&pair[0].as_str()) && pair[1].starts_with(|first: char| first.is_ascii_uppercase())
}

fn read_file(folder: &Path, path: &Path, module: Route, scopes: &mut BTreeMap<Route, Scope>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = syn::parse_file(&text).with_context(|| format!("cannot parse {}", path.display()))?;
    let mut reading = Reading { file: module.clone(), at: module, scopes, children: Vec::new() };
    reading.scopes.insert(reading.at.clone(), Scope { file: reading.file.clone(), ..Scope::default() });
    reading.visit_file(&file);
    for child in reading.children {
        let base = child.iter().fold(folder.to_owned(), |path, name| path.join(name));
        let files = [base.with_extension("rs"), base.join("mod.rs")];
        let Some(path) = files.iter().find(|path| path.exists()) else {
            bail!("{} declares the module `{}`, which has no file", path.display(), shown(&child));
        };
        read_file(folder, path, child, scopes)?;
    }
    Ok(())
}

/// The target of a path of scope `at`, from the root; `None` if that is another crate or a name of the file
/// itself.
fn rooted(scopes: &BTreeMap<Route, Scope>, at: &[String], path: &[String]) -> Option<Route> {
    let (first, rest) = path.split_first()?;
    let mut start = match first.as_str() {
        "crate" => Vec::new(),
        "self" => at.to_vec(),
        "super" => at[..at.len().saturating_sub(1)].to_vec(),
        name => {
            let child = [at, &[name.to_owned()]].concat();
            if scopes.contains_key(&child) {
                child
            } else {
                let imported = scopes.get(at)?.names.get(name)?;
                if imported.first() == path.first() {
                    return None;
                }
                rooted(scopes, at, imported)?
            }
        }
    };
    for name in rest {
        match name.as_str() {
            "self" => {}
            "super" => drop(start.pop()),
            _ => start.push(name.clone()),
        }
    }
    Some(start)
}

/// The module whose file has the target of the route.
fn file_of(scopes: &BTreeMap<Route, Scope>, route: &[String]) -> Route {
    let mut at: Route = Vec::new();
    for (index, name) in route.iter().enumerate() {
        let child = [&at[..], std::slice::from_ref(name)].concat();
        if scopes.contains_key(&child) {
            at = child;
            continue;
        }
        let scope = &scopes[&at];
        if scope.public.contains(name)
            && let Some(target) = scope.names.get(name).and_then(|path| rooted(scopes, &at, path))
            && target.starts_with(&at)
            && target.len() > at.len()
        {
            return file_of(scopes, &[&target[..], &route[index + 1..]].concat());
        }
        break;
    }
    scopes[&at].file.clone()
}

/// A file while it is read.
struct Reading<'a> {
    file: Route,
    at: Route,
    scopes: &'a mut BTreeMap<Route, Scope>,
    /// Modules that have files of their own.
    children: Vec<Route>,
}

impl Reading<'_> {
    fn scope(&mut self) -> &mut Scope {
        self.scopes.get_mut(&self.at).expect("a scope is entered before it is read")
    }

    fn add_path(&mut self, path: Route, for_others: bool) {
        self.scope().paths.push((path, for_others));
    }

    fn add_use(&mut self, tree: &UseTree, before: &[String], for_others: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (path, name) = match tree {
            UseTree::Path(path) => return self.add_use(&path.tree, &with(&path.ident), for_others),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.add_use(item, before, for_others));
            }
            UseTree::Glob(_) => return self.add_path(before.to_vec(), for_others),
            // `use a::{self}` brings in `a`.
            UseTree::Name(name) if name.ident == "self" => (before.to_vec(), before.last().cloned()),
            UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string())),
        };
        if let Some(name) = name {
            self.scope().names.insert(name.clone(), path.clone());
            if for_others {
                self.scope().public.insert(name);
            }
        }
        self.add_path(path, for_others);
    }

    /// Finds paths in the arguments of a macro, which are not parsed.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Route = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end_path(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => colons += 1,
                TokenTree::Group(group) => {
                    self.end_path(&mut path);
                    self.add_tokens(group.stream());
                }
                _ => self.end_path(&mut path),
            }
        }
        self.end_path(&mut path);
    }

    fn end_path(&mut self, path: &mut Route) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.add_path(path, false);
        }
    }
}

impl<'ast> Visit<'ast> for Reading<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !function.attrs.iter().any(is_for_tests) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.at.push(module.ident.to_string());
        match &module.content {
            Some((_, items)) => {
                self.scopes.insert(self.at.clone(), Scope { file: self.file.clone(), ..Scope::default() });
                items.iter().for_each(|item| self.visit_item(item));
            }
            None => self.children.push(self.at.clone()),
        }
        self.at.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let for_others = !matches!(item.vis, Visibility::Inherited);
        self.add_use(&item.tree, &[], for_others);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.add_path(names, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// The attributes of an item.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an attribute is a condition that holds only in builds for tests.
pub(crate) fn is_for_tests(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => asks_for_tests(list.tokens.clone()),
        _ => false,
    }
}

fn asks_for_tests(condition: TokenStream) -> bool {
    let mut negated = false;
    for token in condition {
        match token {
            TokenTree::Ident(name) if TESTING.iter().any(|word| name == word) => return true,
            TokenTree::Ident(name) => negated = name == "not",
            TokenTree::Group(group) if !negated && asks_for_tests(group.stream()) => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The edges of a crate with these files.
    fn edges(files: &[(&str, &str)]) -> Vec<String> {
        let folder = std::env::temp_dir().join(format!("zb-house-{}-{:p}", std::process::id(), files));
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let modules = read(&folder);
        std::fs::remove_dir_all(&folder).expect("made above");
        let modules = modules.expect("a crate");
        modules
            .iter()
            .flat_map(|(name, module)| module.edges.iter().map(move |to| format!("{name} {to}")))
            .collect()
    }

    #[test]
    fn names_are_followed_to_the_file_that_has_them() {
        let found = edges(&[
            ("lib.rs", "mod a; mod b; mod ring; pub use a::{A, Other};"),
            (
                "a.rs",
                "use crate::ring::{self, Place, classic::{Plan, deep::*}}; fn f() { ring::go() } struct A;",
            ),
            (
                "b.rs",
                "fn f(a: crate::A) { assert!(super::ring::yes(), \"{}\", crate::ring::classic::plan()); }",
            ),
            ("ring/mod.rs", "mod classic; pub(crate) use classic::Place;"),
            ("ring/classic.rs", "mod deep; use super::super::b; fn f() { deep::g(); b::f() }"),
            ("ring/classic/deep.rs", "use std::fmt; mod inner { use super::super::Plan; }"),
        ]);
        assert_eq!(
            found,
            [
                "a ring",
                "a ring/classic",
                "a ring/classic/deep",
                "b a",
                "b ring",
                "b ring/classic",
                "ring/classic b",
                "ring/classic ring/classic/deep",
                "ring/classic/deep ring/classic",
            ]
        );
    }

    #[test]
    fn code_that_only_tests_build_has_no_edges() {
        let found = edges(&[
            ("lib.rs", "mod a; mod b; #[cfg(all(test, loom))] mod none;"),
            ("a.rs", "#[cfg(test)] mod tests { use crate::b; } #[cfg(any(fuzzing, test))] use crate::b::c;"),
            ("b.rs", "#[cfg(not(loom))] use crate::a; #[cfg(loom)] mod model { use crate::none; }"),
        ]);
        assert_eq!(found, ["b a"]);
    }
}
