//! Rust text taken apart into words, punctuation and comments; strings are left out.

/// A word or a character of punctuation, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// A file without its strings.
#[derive(Debug, Default)]
pub(crate) struct Source<'a> {
    pub(crate) tokens: Vec<Token<'a>>,
    pub(crate) comments: Vec<Token<'a>>,
}

impl<'a> Source<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let mut source = Source::default();
        let (mut rest, mut line) = (text, 1);
        while let Some(first) = rest.chars().next() {
            let (length, kind) = next(rest, first);
            let token = Token {
                text: &rest[..length],
                line,
            };
            line += token.text.matches('\n').count();
            match kind {
                Kind::Code => source.tokens.push(token),
                Kind::Comment => source.comments.push(token),
                Kind::Nothing => {}
            }
            rest = &rest[length..];
        }
        source
    }
}

enum Kind {
    Code,
    Comment,
    Nothing,
}

/// The length and kind of what the text begins with.
fn next(text: &str, first: char) -> (usize, Kind) {
    if text.starts_with("//") {
        return (text.find('\n').unwrap_or(text.len()), Kind::Comment);
    }
    if text.starts_with("/*") {
        return (block_comment(text), Kind::Comment);
    }
    if let Some(length) = string(text) {
        return (length, Kind::Nothing);
    }
    if first == '\'' {
        return (quote(text), Kind::Nothing);
    }
    if is_word(first) {
        let end = text.find(|other| !is_word(other)).unwrap_or(text.len());
        return (end, Kind::Code);
    }
    let kind = if first.is_whitespace() {
        Kind::Nothing
    } else {
        Kind::Code
    };
    (first.len_utf8(), kind)
}

pub(crate) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            match rest.chars().next() {
                Some(character) => at += character.len_utf8(),
                None => return at,
            }
        }
    }
}

/// The length of a string literal of any kind, prefix included.
fn string(text: &str) -> Option<usize> {
    let prefix = text.find(|other: char| !other.is_ascii_lowercase())?;
    if !["", "b", "c", "r", "br", "cr"].contains(&&text[..prefix]) {
        return None;
    }
    let body = &text[prefix..];
    if text[..prefix].ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        if !body[hashes..].starts_with('"') {
            return None;
        }
        let close = format!("\"{}", "#".repeat(hashes));
        let start = prefix + hashes + 1;
        let end = text[start..].find(&close);
        return Some(end.map_or(text.len(), |end| start + end + close.len()));
    }
    if !body.starts_with('"') {
        return None;
    }
    let mut escaped = false;
    for (at, character) in body.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of a character literal, or of the quote alone where a lifetime begins.
fn quote(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            characters
                .find(|(_, character)| *character == '\'')
                .map_or(1, |(at, _)| at + 1)
        }
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let source = Source::of(text);
        source.tokens.iter().map(|token| token.text).collect()
    }

    #[test]
    fn strings_and_characters_are_left_out() {
        assert_eq!(
            words(r#"a("b \" c", 'd', '\'', '\u{e}')"#),
            ["a", "(", ",", ",", ",", ")"]
        );
        assert_eq!(words("r#\"a \" b\"# c br\"d\" e b\"f\" g"), ["c", "e", "g"]);
        let lifetimes = [
            "fn", "f", "<", "a", ">", "(", "x", ":", "&", "a", "str", ")",
        ];
        assert_eq!(words("fn f<'a>(x: &'a str)"), lifetimes);
        assert_eq!(words("let r = bar;"), ["let", "r", "=", "bar", ";"]);
    }

    #[test]
    fn comments_are_kept_apart_with_their_lines() {
        let source = Source::of("a /* b /* c */\n d */ e\n// f\n\"\n\" g");
        let of = |tokens: &[Token<'_>]| -> Vec<_> {
            let pairs = tokens
                .iter()
                .map(|token| (token.text.to_owned(), token.line));
            pairs.collect()
        };
        assert_eq!(
            of(&source.tokens),
            [("a".into(), 1), ("e".into(), 2), ("g".into(), 5)]
        );
        assert_eq!(of(&source.comments)[1], ("// f".into(), 3));
    }
}
