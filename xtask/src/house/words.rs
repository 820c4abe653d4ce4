//! Phrases that make an English-speaking reader stop, and the words to use instead, in every page and every source.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// A phrase, and what to write instead.
const PHRASES: [(&str, &str); 14] = [
    ("of ours", "native: a native reader, a native writer"),
    ("of theirs", "of 1.x peers"),
    ("whoever", "the process, thread or caller that"),
    ("nobody", "no process, no thread, no caller"),
    ("for want of", "because ... is missing"),
    ("anew", "again"),
    ("for ever", "without limit, without end"),
    ("in good order", "closed"),
    ("at the most", "at most"),
    ("the same as", "equal to, like"),
    ("the same for", "the fact itself"),
    ("the same after", "the fact itself"),
    ("bears", "has, carries, tolerates"),
    ("bear", "have, carry, tolerate"),
];

/// Kinds of files that people read.
const KINDS: [&str; 15] = [
    "*.rs", "*.md", "*.py", "*.pyi", "*.c", "*.h", "*.cpp", "*.hpp", "*.cs", "*.toml", "*.yml", "*.sh",
    "*.pml", "*.txt", "*.cmake",
];

/// The one file that spells the phrases.
const LEFT_OUT: &str = "xtask/src/house/words.rs";

/// Refuses the phrases; returns how many files were read.
pub(super) fn check(root: &Path) -> Result<usize> {
    let output = Command::new("git").args(["ls-files", "-z"]).args(KINDS).current_dir(root).output()?;
    let mut files = 0;
    let mut found = Vec::new();
    let is_read = |path: &&str| *path != LEFT_OUT;
    for path in String::from_utf8(output.stdout)?.split_terminator('\0').filter(is_read) {
        let Ok(text) = std::fs::read_to_string(root.join(path)) else { continue };
        files += 1;
        found.extend(
            phrases(&text)
                .into_iter()
                .map(|(line, phrase, instead)| format!("{path}:{line}: \"{phrase}\" (write: {instead})")),
        );
    }
    if !found.is_empty() {
        bail!(
            "phrases that read as translated (CONTRIBUTING.md asks for plain English):\n{}",
            found.join("\n")
        );
    }
    Ok(files)
}

/// The phrases in a text, each with its line. A phrase may go on in the next line of a comment.
fn phrases(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let mut joined = String::new();
    let mut starts = Vec::new();
    for line in text.lines() {
        starts.push(joined.len());
        joined.push_str(line.trim_start().trim_start_matches(['/', '!', '*', '#', '>']).trim());
        joined.push(' ');
    }
    let mut found = Vec::new();
    for (phrase, instead) in PHRASES {
        let (first, rest) = phrase.split_at(1);
        for spelling in [phrase.to_owned(), first.to_uppercase() + rest] {
            for (at, _) in joined.match_indices(&spelling) {
                let in_word = |letter: char| letter.is_alphanumeric() || letter == '_';
                let before = joined[..at].chars().next_back().is_some_and(in_word);
                let after = joined[at + spelling.len()..].chars().next().is_some_and(in_word);
                if !before && !after {
                    found.push((starts.partition_point(|start| *start <= at), phrase, instead));
                }
            }
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::phrases;

    fn lines(text: &str) -> Vec<(usize, &'static str)> {
        phrases(text).into_iter().map(|(line, phrase, _)| (line, phrase)).collect()
    }

    #[test]
    fn a_phrase_is_found_in_any_comment_and_across_lines() {
        assert_eq!(lines("// one\n// Nobody reads this."), [(2, "nobody")]);
        assert_eq!(lines("    /// fails for want\n    /// of memory"), [(1, "for want of")]);
        assert_eq!(lines(" * A reader of ours\n"), [(1, "of ours")]);
        assert_eq!(lines("# the same\n# as before"), [(1, "the same as")]);
    }

    #[test]
    fn a_word_that_only_contains_a_phrase_is_left_alone() {
        assert_eq!(lines("renewed, forbears, become_nobody, the same assumption, NOBODY"), []);
    }
}
