//! Changes that were written by hand, and survivors with an argument why they change nothing.

use std::path::Path;

use anyhow::{Context, Result, bail};

pub(super) const FILE: &str = "verification/mutants/by-hand.txt";
pub(super) const EQUIVALENT: &str = "verification/mutants/equivalent.txt";
pub(super) const TESTS: &str = "verification/mutants/tests.txt";

/// A test program, and a part of the names of its tests.
pub(super) type Named = (String, String);

/// A change that was written by hand.
#[derive(Debug, Default)]
pub(super) struct ByHand {
    pub(super) name: String,
    /// Below the workspace's folder.
    pub(super) file: String,
    /// The original code; white space does not matter.
    pub(super) original: String,
    /// The code that replaces it.
    pub(super) code: String,
    /// A test program and a part of the names of its tests: the tests that should notice.
    pub(super) tests: Vec<Named>,
    /// Why no test notices it yet.
    pub(super) open: Option<String>,
    /// It is judged in every run of the tests.
    pub(super) always: bool,
}

impl ByHand {
    pub(super) fn key(&self) -> String {
        format!("by hand: {}", self.name)
    }
}

/// Reads the file: for each change a heading `= name`, then `file PATH`, `test PROGRAM PART` (one line each), `open WHY` if no test notices
/// it yet, `always` if it is judged in every run of the tests, the lines of the original behind `-` and those in their place behind `+`.
pub(super) fn read(root: &Path) -> Result<Vec<ByHand>> {
    let text = std::fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<ByHand>> {
    let mut all: Vec<ByHand> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("= ") {
            all.push(ByHand { name: name.to_owned(), ..ByHand::default() });
            continue;
        }
        let wrong = || format!("{FILE}, line {}: `{line}` is no line of a mutant", index + 1);
        let mutant = all.last_mut().with_context(wrong)?;
        match line.split_at_checked(1) {
            Some(("-", code)) => mutant.original.extend([code.trim(), "\n"]),
            Some(("+", code)) => mutant.code.extend([code.trim(), "\n"]),
            _ if line == "always" => mutant.always = true,
            _ => match line.split_once(' ') {
                Some(("file", path)) => mutant.file = path.to_owned(),
                Some(("open", why)) => mutant.open = Some(why.to_owned()),
                Some(("test", test)) => {
                    let (program, part) = test.split_once(' ').with_context(wrong)?;
                    mutant.tests.push((program.to_owned(), part.to_owned()));
                }
                _ => bail!(wrong()),
            },
        }
    }
    for mutant in &all {
        if mutant.file.is_empty() || mutant.original.is_empty() || mutant.tests.is_empty() {
            bail!("{FILE}: `{}` lacks its file, its original or its tests", mutant.name);
        }
    }
    Ok(all)
}

/// Keys of survivors whose change has no observable effect, each with the reason: `key | reason`.
pub(super) fn equivalent(root: &Path) -> Result<Vec<(String, String)>> {
    let path = root.join(EQUIVALENT);
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {EQUIVALENT}"))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (key, reason) = line.rsplit_once(" | ").unwrap_or((line, ""));
            if reason.trim().is_empty() {
                bail!("{EQUIVALENT}: `{key}` has no reason");
            }
            Ok((key.to_owned(), reason.to_owned()))
        })
        .collect()
}

/// Tests that ought to notice changes: the begin of the changes' names, a test program, and a part of its tests' names.
pub(super) fn named(root: &Path) -> Result<Vec<(String, Named)>> {
    let text = std::fs::read_to_string(root.join(TESTS)).with_context(|| format!("cannot read {TESTS}"))?;
    parse_named(&text)
}

fn parse_named(text: &str) -> Result<Vec<(String, Named)>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (begin, test) = line.rsplit_once(" | ").unwrap_or((line, ""));
            let Some((program, part)) = test.split_once(' ') else {
                bail!("{TESTS}: `{line}` names no test program and no test");
            };
            Ok((begin.to_owned(), (program.to_owned(), part.to_owned())))
        })
        .collect()
}

/// The tests of `named` that ought to notice `key`: those whose line says most of its name come first.
pub(super) fn tests_of(named: &[(String, Named)], key: &str) -> Vec<Named> {
    let mut found: Vec<_> = named.iter().filter(|(begin, _)| key.starts_with(begin.as_str())).collect();
    found.sort_by_key(|(begin, _)| std::cmp::Reverse(begin.len()));
    found.into_iter().map(|(_, test)| test.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_has_a_file_an_original_and_tests() {
        let text = "# words\n= no fence\nfile a.rs\ntest promises x\n-fence();\n+nothing();\n+\n";
        let mutants = parse(text).expect("a mutant");
        assert_eq!((mutants[0].original.trim(), mutants[0].code.trim()), ("fence();", "nothing();"));
        assert_eq!(mutants[0].tests, [("promises".to_owned(), "x".to_owned())]);
        assert!(parse("= no tests\nfile a.rs\n-x\n").is_err());
        assert!(parse("-x\n").is_err());
    }

    #[test]
    fn tests_are_named_by_the_begin_of_a_mutant() {
        let named = parse_named("# words\na/b.rs | promises x::y\na/b.rs f: a || b | zerobuffer b::\n");
        let named = named.expect("two lines");
        let tests = tests_of(&named, "a/b.rs f: a || b [|| to &&] c");
        let tests: Vec<String> = tests.iter().map(|(program, part)| format!("{program} {part}")).collect();
        assert_eq!(tests, ["zerobuffer b::", "promises x::y"]);
        assert!(tests_of(&named, "a/c.rs f: return").is_empty());
        assert!(parse_named("a.rs | promises\n").is_err());
    }
}
