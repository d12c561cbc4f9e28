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
    ensure!(
        actual == expected,
        "{what}: expected {}, got {}",
        short(expected),
        short(actual)
    );
    Ok(())
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

/// Payloads of megabytes do not belong in a message.
fn short(value: &impl std::fmt::Debug) -> String {
    const LIMIT: usize = 600;
    let text = format!("{value:?}");
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}
