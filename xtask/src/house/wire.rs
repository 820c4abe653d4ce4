//! Compares the tables of docs/PROTOCOL.md with the structs and constants of the core: every word at its
//! offset, no further word (even in the padding of a line), every bit of every flag.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use syn::visit::{self, Visit};
use syn::{Expr, Item, Type};

const PAGE: &str = "docs/PROTOCOL.md";
const SOURCES: &str = "crates/zerobuffer/src";

/// Structs in shared memory, and the heading row of their table.
const STRUCTS: [(&str, &str); 3] = [
    ("Oieb", "| offset | field | type | written by |"),
    ("Control", "| offset | field | written by |"),
    ("Sharing", "| offset | word | written by |"),
];

/// Tables of bits: the heading row, which columns hold bit and name, and the constants that need no row.
const BITS: [(&str, usize, usize); 3] = [
    ("| word | bits | meaning |", 1, 2),
    ("| flag | bit | meaning |", 1, 0),
    ("| bit | name | meaning |", 0, 1),
];

/// Modules or types of the sources that the tables of bits describe.
const FLAGS: [&str; 6] = ["ExtensionWord", "ReaderWord", "WriterWord", "HeaderWord", "flags", "doorbell"];

/// Compares the page with the sources.
pub(super) fn check(root: &Path) -> Result<usize> {
    let page = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let mut sources = Sources::default();
    sources.read(&root.join(SOURCES))?;
    compare(&page, &sources)
}

fn compare(page: &str, sources: &Sources) -> Result<usize> {
    let mut faults = Vec::new();
    let mut count = 0;
    for (name, heading) in STRUCTS {
        let (rows, words) = (rows(page, heading)?, sources.words(name)?);
        count += words.len();
        let mut documented = BTreeMap::new();
        for row in &rows {
            let what = row[1].split('`').nth(1).map(|name| name.split('[').next().unwrap_or(name).to_owned());
            for offset in row[0].split(',') {
                documented.insert(number(offset.trim())?, what.clone());
            }
        }
        for (offset, word) in &words {
            match documented.get(offset) {
                None => faults.push(format!("`{word}` of {name} at {offset} has no row")),
                Some(Some(what)) if !word.split('.').any(|part| part == what) => {
                    faults.push(format!("at {offset} of {name} is `{word}`, the page has `{what}`"));
                }
                Some(_) => {}
            }
        }
        let without = documented.keys().filter(|offset| !words.contains_key(offset));
        faults.extend(without.map(|offset| format!("the row of {offset} names no word of {name}")));
    }
    let mut documented = BTreeMap::new();
    for (heading, bit, name) in BITS {
        for table in tables(page, heading) {
            for row in table {
                // A meaning begins with the name in italics, if the bit has one.
                let cell = row[name].as_str();
                let name = cell.split('*').nth(1).unwrap_or(if name == 0 { cell } else { "" });
                if let (Ok(bit), false) = (row[bit].trim().parse::<u32>(), name.is_empty()) {
                    documented.insert(name.to_uppercase().replace(' ', "_"), bit);
                }
            }
        }
    }
    // The bit of the tail word is a field, not a constant.
    documented.remove("CHANGING");
    let bits = sources.bits();
    count += bits.len();
    for (name, bit) in &bits {
        match documented.get(name) {
            None => faults.push(format!("the bit {name} ({bit}) has no row")),
            Some(page) if page != bit => faults.push(format!("{name} is bit {bit}, the page has {page}")),
            Some(_) => {}
        }
    }
    let without = documented.keys().filter(|name| !bits.contains_key(*name));
    faults.extend(without.map(|name| format!("the page has a bit {name} that the sources do not have")));
    if !faults.is_empty() {
        bail!("{PAGE} and the layout differ: {}", faults.join("; "));
    }
    Ok(count)
}

fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("{PAGE}: `{text}` is no offset"))
}

/// The rows of every table with this heading.
fn tables(page: &str, heading: &str) -> Vec<Vec<Vec<String>>> {
    let lines: Vec<&str> = page.lines().collect();
    let starts = (0..lines.len()).filter(|&index| lines[index] == heading);
    starts
        .map(|start| {
            let rows = lines[start + 2..].iter().take_while(|line| line.starts_with('|'));
            rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
                .collect()
        })
        .collect()
}

fn rows(page: &str, heading: &str) -> Result<Vec<Vec<String>>> {
    let mut found = tables(page, heading);
    match found.len() {
        1 => Ok(found.remove(0)),
        count => bail!("{PAGE} has {count} tables `{heading}`, not one"),
    }
}

/// Structs and constants of the core.
#[derive(Default)]
struct Sources {
    /// Fields, and the alignment that a struct asks for.
    structs: BTreeMap<String, (Vec<(String, Type)>, u64)>,
    /// Integers by their type or module and their names.
    constants: BTreeMap<(String, String), Expr>,
    around: Vec<String>,
}

impl Sources {
    fn read(&mut self, folder: &Path) -> Result<()> {
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                self.read(&path)?;
            } else if path.extension().is_some_and(|end| end == "rs") {
                let module = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                self.add(&module, &std::fs::read_to_string(&path)?)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, module: &str, text: &str) -> Result<()> {
        let file = syn::parse_file(text).with_context(|| format!("cannot parse {module}"))?;
        self.around = vec![module.to_owned()];
        self.visit_file(&file);
        Ok(())
    }

    /// The words of a struct by their offsets, with the names of the fields that lead to them.
    fn words(&self, name: &str) -> Result<BTreeMap<u64, String>> {
        let mut words = BTreeMap::new();
        self.place(name, 0, "", &mut words)?;
        Ok(words)
    }

    /// Lays a struct out as `repr(C)` does; returns its size and alignment.
    fn place(
        &self,
        name: &str,
        base: u64,
        prefix: &str,
        words: &mut BTreeMap<u64, String>,
    ) -> Result<(u64, u64)> {
        let (fields, asked) = self.structs.get(name).with_context(|| format!("there is no struct {name}"))?;
        let (mut at, mut alignment) = (0_u64, *asked);
        for (field, kind) in fields {
            let (size, align) = self.place_type(kind, 0, "", &mut BTreeMap::new())?;
            at = at.next_multiple_of(align);
            self.place_type(kind, base + at, &format!("{prefix}{field}"), words)?;
            at += size;
            alignment = alignment.max(align);
        }
        Ok((at.next_multiple_of(alignment), alignment))
    }

    fn place_type(
        &self,
        kind: &Type,
        at: u64,
        name: &str,
        words: &mut BTreeMap<u64, String>,
    ) -> Result<(u64, u64)> {
        match kind {
            Type::Array(array) => {
                let count = self.value(&array.len, "").context("an array's length")?;
                let (size, align) = self.place_type(&array.elem, 0, "", &mut BTreeMap::new())?;
                for index in 0..count {
                    self.place_type(&array.elem, at + index * size, name, words)?;
                }
                Ok((count * size, align))
            }
            Type::Path(path) => {
                let last = path.path.segments.last().context("a type has a name")?.ident.to_string();
                let size = match last.as_str() {
                    "AtomicU64" | "u64" => 8,
                    "AtomicU32" | "u32" => 4,
                    other => return self.place(other, at, &format!("{name}."), words),
                };
                words.insert(at, name.to_owned());
                Ok((size, size))
            }
            _ => bail!("`{name}` has a type that this check cannot lay out"),
        }
    }

    /// Flags with one bit, by name.
    fn bits(&self) -> BTreeMap<String, u32> {
        let flags: BTreeSet<&str> = FLAGS.into();
        let mut bits = BTreeMap::new();
        for ((place, name), expression) in &self.constants {
            let is_mask = name.ends_with("_MASK") || name.ends_with("MAGIC");
            if flags.contains(place.as_str())
                && !is_mask
                && is_flag(expression)
                && let Some(value) = self.value(expression, place)
                && value.is_power_of_two()
            {
                bits.insert(name.clone(), value.trailing_zeros());
            }
        }
        bits
    }

    fn value(&self, expression: &Expr, place: &str) -> Option<u64> {
        match expression {
            Expr::Lit(literal) => match &literal.lit {
                syn::Lit::Int(number) => number.base10_parse().ok(),
                _ => None,
            },
            Expr::Paren(inner) => self.value(&inner.expr, place),
            Expr::Cast(cast) => self.value(&cast.expr, place),
            Expr::Binary(binary) => {
                let (left, right) = (self.value(&binary.left, place)?, self.value(&binary.right, place)?);
                match binary.op {
                    syn::BinOp::Shl(_) => left.checked_shl(u32::try_from(right).ok()?),
                    syn::BinOp::Sub(_) => left.checked_sub(right),
                    syn::BinOp::BitOr(_) => Some(left | right),
                    _ => None,
                }
            }
            Expr::Path(path) => {
                let name = path.path.segments.last()?.ident.to_string();
                self.value(self.constants.get(&(place.to_owned(), name))?, place)
            }
            _ => None,
        }
    }
}

/// Whether a constant is written as a flag: `1`, or `1 << n`.
fn is_flag(expression: &Expr) -> bool {
    let is_one = |expression: &Expr| matches!(expression, Expr::Lit(one) if matches!(&one.lit, syn::Lit::Int(one) if one.base10_digits() == "1"));
    match expression {
        Expr::Binary(binary) => matches!(binary.op, syn::BinOp::Shl(_)) && is_one(&binary.left),
        other => is_one(other),
    }
}

impl<'ast> Visit<'ast> for Sources {
    fn visit_item(&mut self, item: &'ast Item) {
        if super::attributes(item).iter().any(super::is_for_tests) {
            return;
        }
        let place = self.around.last().expect("a file").clone();
        match item {
            Item::Mod(module) => {
                self.around.push(module.ident.to_string());
                visit::visit_item(self, item);
                self.around.pop();
            }
            Item::Const(constant) => {
                self.constants.insert((place, constant.ident.to_string()), (*constant.expr).clone());
            }
            Item::Impl(block) => {
                if let Type::Path(path) = &*block.self_ty
                    && let Some(last) = path.path.segments.last()
                {
                    self.around.push(last.ident.to_string());
                    visit::visit_item(self, item);
                    self.around.pop();
                }
            }
            Item::Struct(structure) => {
                let representation =
                    structure.attrs.iter().find(|attribute| attribute.path().is_ident("repr"));
                let text = representation.and_then(|attribute| match &attribute.meta {
                    syn::Meta::List(list) => Some(list.tokens.to_string()),
                    _ => None,
                });
                if let Some(text) = text.filter(|text| text.starts_with('C')) {
                    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
                    let fields = structure
                        .fields
                        .iter()
                        .filter_map(|field| Some((field.ident.as_ref()?.to_string(), field.ty.clone())));
                    let value = (fields.collect(), digits.parse().unwrap_or(1));
                    self.structs.insert(structure.ident.to_string(), value);
                }
            }
            _ => {}
        }
    }

    fn visit_impl_item_const(&mut self, constant: &'ast syn::ImplItemConst) {
        let place = self.around.last().expect("a file").clone();
        self.constants.insert((place, constant.ident.to_string()), constant.expr.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
        #[repr(C)] pub struct Oieb { a: AtomicU32, b: AtomicU32, c: AtomicU64 }
        #[repr(C)] pub struct Control { written: Line, bell: Bell }
        #[repr(C, align(128))] struct Line { head: AtomicU64, leap_from: [AtomicU64; 2] }
        #[repr(C, align(128))] struct Bell { reader_bell: AtomicU32 }
        #[repr(C)] pub struct Sharing { loans: AtomicU64 }
        impl ReaderWord { const KEPT: u64 = 1 << 32; const PID_MASK: u64 = (1 << 32) - 1; }
        mod flags { const FIRST: u16 = 1 << 9; }";

    const PAGE: &str = "
| offset | field | type | written by |
|---|---|---|---|
| 0x00 | `a`: 128 | u32 | reader |
| 0x04 | reserved: `b` | u32 | reader |
| 0x08 | `c` | u64 | reader |

| offset | field | written by |
|---|---|---|
| 0 | `head`: cursor | writer |
| 8, 16 | `leap_from[2]`: cursor | writer |
| 128 | `reader_bell` (u32) | both |

| offset | word | written by |
|---|---|---|
| 0 | `loans` | both |

| word | bits | meaning |
|---|---|---|
| `reader_word` 0x68 | 0..32 | pid |
| | 32 | *kept*: held |

| flag | bit | meaning |
|---|---|---|
| first | 9 | the first frame of its writer |
";

    fn faults(page: &str, source: &str) -> String {
        let mut sources = Sources::default();
        sources.add("words", source).expect("Rust");
        compare(page, &sources).map_or_else(|error| error.to_string(), |count| format!("{count}"))
    }

    #[test]
    fn a_page_that_differs_from_the_layout_is_found_out() {
        assert_eq!(faults(PAGE, SOURCE), "10");
        let moved = SOURCE.replace("a: AtomicU32, b: AtomicU32", "b: AtomicU32, a: AtomicU32");
        assert!(faults(PAGE, &moved).contains("at 0 of Oieb is `b`, the page has `a`"));
        let padded =
            SOURCE.replace("leap_from: [AtomicU64; 2]", "leap_from: [AtomicU64; 2], spare: AtomicU32");
        assert!(faults(PAGE, &padded).contains("`written.spare` of Control at 24 has no row"));
        assert!(faults(&PAGE.replace("| 8, 16 |", "| 8, 16, 24 |"), SOURCE).contains("names no word"));
        assert!(
            faults(&PAGE.replace("| | 32 |", "| | 33 |"), SOURCE).contains("KEPT is bit 32, the page has 33")
        );
        assert!(faults(PAGE, &SOURCE.replace("FIRST", "LAST")).contains("the bit LAST (9) has no row"));
    }
}
