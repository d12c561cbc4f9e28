//! Paths as written in code, with the braces of `use` expanded.

use crate::source::{Token, is_word};

/// A path such as `std::thread::spawn`, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

impl Named {
    /// Whether `wanted`, a path, occurs within this one.
    pub(crate) fn holds(&self, wanted: &str) -> bool {
        let wanted: Vec<_> = wanted.split("::").collect();
        self.path
            .windows(wanted.len())
            .any(|window| window.iter().eq(wanted.iter()))
    }
}

/// Every path of a file.
pub(crate) fn paths(tokens: &[Token<'_>]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text.starts_with(is_word) {
            at = path(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads a path, and what hangs below it; returns where it ends.
fn path(tokens: &[Token<'_>], start: usize, above: &[String], found: &mut Vec<Named>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut path = above.to_vec();
    let mut at = start;
    loop {
        path.push(text(at).to_owned());
        at += 1;
        if text(at) != ":" || text(at + 1) != ":" {
            break;
        }
        at += 2;
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                at = if text(at).starts_with(is_word) {
                    self::path(tokens, at, &path, found)
                } else {
                    at + 1
                };
            }
            return at + 1;
        }
        if !text(at).starts_with(is_word) {
            break;
        }
    }
    found.push(Named {
        path,
        line: tokens[start].line,
    });
    at
}
