//! Typed ids.

use everfold_engine::Text;

/// Text that identifies an entity or a row: a new type over `String`, or `String` itself.
///
/// ```
/// # use everfold_runtime::Key;
/// let id = String::from_text("customer-7");
/// assert_eq!(id.as_text(), "customer-7");
/// ```
pub trait Key: Clone + Ord + Send + Sync + 'static {
    /// The key that reads as `text`.
    fn from_text(text: &str) -> Self;

    /// The key as text.
    fn as_text(&self) -> &str;
}

impl Key for String {
    fn from_text(text: &str) -> Self {
        text.to_owned()
    }

    fn as_text(&self) -> &str {
        self
    }
}

impl Key for Text {
    fn from_text(text: &str) -> Self {
        text.into()
    }

    fn as_text(&self) -> &str {
        self
    }
}
