//! Texts as PostgreSQL can hold them: a text of ours may hold a NUL, one of its may not.

use std::borrow::Cow;

/// Stands before what it changes: `␀0` is a NUL, `␀␀` is itself.
const MARK: char = '␀';

/// The text without NULs; [`restore`] gives it back.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => escaped.extend([MARK, '0']),
            MARK => escaped.extend([MARK, MARK]),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// The text as it was before [`escape`].
pub(crate) fn restore(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut restored = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            MARK => restored.extend(characters.next().map(|next| match next {
                '0' => '\0',
                other => other,
            })),
            other => restored.push(other),
        }
    }
    Cow::Owned(restored)
}

/// Bytes of an element at most, about: an index takes no longer ones. Who looks for a longer one finds
/// all that begin like it, and compares.
const ELEMENT: usize = 2000;

/// A literal of `text[]`: `{"a=b","c=d"}`, of labels as they are indexed.
pub(crate) fn array_literal<'a>(elements: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut literal = String::from("{");
    for (name, value) in elements {
        if literal.len() > 1 {
            literal.push(',');
        }
        literal.push('"');
        let (name, value) = (escape(name), escape(value));
        let characters = name.chars().chain(['=']).chain(value.chars());
        let mut bytes = 0;
        for character in characters {
            bytes += character.len_utf8();
            if bytes > ELEMENT {
                break;
            }
            if matches!(character, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(character);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_none_becomes_another() {
        let texts = ["", "a", "\0", "␀", "␀0", "\0\0", "␀␀", "a\0b␀0", "ü€😀"];
        let escaped: Vec<_> = texts.iter().map(|text| escape(text)).collect();
        for (text, escaped) in texts.iter().zip(&escaped) {
            assert!(!escaped.contains('\0'));
            assert_eq!(restore(escaped), *text);
        }
        for (index, one) in escaped.iter().enumerate() {
            assert!(!escaped[index + 1..].contains(one), "{one}");
        }
    }

    #[test]
    fn literals_quote_what_would_end_them() {
        let labels = [("a", "b\"c"), ("d,e", "\\{}")];
        assert_eq!(
            array_literal(labels.into_iter()),
            r#"{"a=b\"c","d,e=\\{}"}"#
        );
    }
}
