//! How a case says no.

/// A case that went wrong, in words.
pub(crate) type Failure = String;

/// What a case returns.
pub(crate) type Checked<T = ()> = Result<T, Failure>;

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}

/// Fails the case unless the value has the form.
macro_rules! ensure_form {
    ($value:expr, $form:pat, $what:expr) => {
        match $value {
            $form => {}
            other => {
                return Err(format!(
                    "{}: expected {}, got {other:?}",
                    $what,
                    stringify!($form)
                ));
            }
        }
    };
}

/// Fails the case unless both are equal.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    actual: &T,
    expected: &T,
    what: &str,
) -> Checked {
    if actual == expected {
        return Ok(());
    }
    let (expected, actual) = (format!("{expected:?}"), format!("{actual:?}"));
    let equal = expected.bytes().zip(actual.bytes());
    let start = equal.take_while(|(a, b)| a == b).count();
    Err(format!(
        "{what}: expected {}, got {}",
        around(&expected, start),
        around(&actual, start)
    ))
}

/// Says what was tried where a call failed that had no right to.
pub(crate) trait Tried<T> {
    fn tried(self, what: &str) -> Checked<T>;
}

impl<T, E: std::fmt::Debug> Tried<T> for Result<T, E> {
    fn tried(self, what: &str) -> Checked<T> {
        self.map_err(|error| format!("{what} failed: {error:?}"))
    }
}

/// The text about a place in it: payloads of megabytes do not belong in a message.
fn around(text: &str, place: usize) -> String {
    const BEFORE: usize = 100;
    const AFTER: usize = 300;
    let start = text.floor_char_boundary(place.saturating_sub(BEFORE));
    let end = text.floor_char_boundary(place + AFTER);
    let mark = |cut: bool| if cut { "…" } else { "" };
    format!(
        "{}{}{}",
        mark(start > 0),
        &text[start..end],
        mark(end < text.len())
    )
}
