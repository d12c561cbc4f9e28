//! Which payloads PostgreSQL can hold as `json` and turn into `jsonb`.

use serde::de::IgnoredAny;

/// Arrays and objects within each other beyond which the server may run out of stack.
const DEPTH: usize = 512;
/// Digits in a row beyond which a number may be too long for `numeric`.
const DIGITS: usize = 1000;

/// The payload as text, if it is JSON that `jsonb` can hold. What is not is kept as bytes: JSON with
/// a NUL or half a surrogate pair in a string, with numbers beyond `numeric`, or deeply nested.
pub(crate) fn fitting(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    let found = look(payload)?;
    if found.escapes {
        // Half a surrogate pair makes this fail; a NUL is looked for before.
        serde_json::from_str::<serde_json::Value>(text).ok()?;
    } else {
        serde_json::from_str::<IgnoredAny>(text).ok()?;
    }
    Some(text)
}

struct Found {
    /// Strings hold `\u`.
    escapes: bool,
}

/// Looks for what is valid JSON and still too much; `None` if there is any.
fn look(payload: &[u8]) -> Option<Found> {
    let mut found = Found { escapes: false };
    let (mut in_string, mut digits, mut depth, mut at) = (false, 0, 0_usize, 0);
    while let Some(&byte) = payload.get(at) {
        at += 1;
        if in_string {
            match byte {
                b'"' => in_string = false,
                b'\\' => {
                    if payload.get(at) == Some(&b'u') {
                        found.escapes = true;
                        if payload[at..].starts_with(b"u0000") {
                            return None;
                        }
                    }
                    at += 1;
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'0'..=b'9' => {
                digits += 1;
                if digits > DIGITS {
                    return None;
                }
                continue;
            }
            b'e' | b'E' if digits > 0 => {
                let sign = usize::from(matches!(payload.get(at), Some(b'+' | b'-')));
                let exponent = payload[at + sign..].iter();
                if exponent.take_while(|byte| byte.is_ascii_digit()).count() > 3 {
                    return None;
                }
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH {
                    return None;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        digits = 0;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_fits_unless_jsonb_cannot_hold_it() {
        let long = "1".repeat(DIGITS + 1);
        let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
        for (text, fits) in [
            ("{}", true),
            (r#"{"a": [1, 2.50, -3e2, true, null]}"#, true),
            (r#""\u00fc\ud83d\ude00""#, true),
            (r#""\u0000""#, false),
            (r#""\ud83d""#, false),
            (r#""\\u0000""#, true),
            ("1e400", true),
            ("1e4000", false),
            ("1.5E+12345", false),
            (long.as_str(), false),
            (deep.as_str(), false),
            ("{", false),
            ("", false),
            ("{} x", false),
        ] {
            assert_eq!(fitting(text.as_bytes()).is_some(), fits, "{text}");
        }
        assert!(fitting(b"\"\xff\"").is_none());
    }
}
