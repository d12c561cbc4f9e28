//! Changes of tables beside the log, in the transaction of an append.

use bytes::Bytes;
use uuid::Uuid;

use crate::Text;
use crate::time::Timestamp;

/// One SQL statement as a value: it is run in the transaction of the append that carries it, or not
/// at all.
///
/// ```
/// use everfold_engine::engine::Statement;
/// let paid = Statement::new("update invoice set paid = $2 where id = $1").with("i-1").with(true);
/// assert_eq!(paid.parameters.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Statement {
    /// With `$1`, `$2` and so on where the parameters go. One statement, which the caller wrote:
    /// never text that came from outside.
    pub text: Text,
    /// In the order of their numbers.
    pub parameters: Vec<Parameter>,
}

/// A value for a statement. The store turns it into the type that stands at its place.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Parameter {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number, for any integer or exact decimal.
    Integer(i64),
    /// A number with a binary fraction. Amounts of money are better off as text.
    Float(f64),
    /// Text, for text of any type: dates, exact decimals and JSON are written as text too.
    Text(Text),
    /// Bytes.
    Bytes(Bytes),
    /// A moment.
    Time(Timestamp),
    /// An id.
    Uuid(Uuid),
}

impl Statement {
    /// A statement without parameters yet.
    pub fn new(text: impl Into<Text>) -> Self {
        Self {
            text: text.into(),
            parameters: Vec::new(),
        }
    }

    /// Adds the next parameter.
    #[must_use]
    pub fn with(mut self, parameter: impl Into<Parameter>) -> Self {
        self.parameters.push(parameter.into());
        self
    }

    /// Bytes of text and parameters, as limits count them.
    pub fn bytes(&self) -> usize {
        let parameters = self.parameters.iter().map(|parameter| match parameter {
            Parameter::Text(text) => text.len(),
            Parameter::Bytes(bytes) => bytes.len(),
            _ => 8,
        });
        self.text.len() + parameters.sum::<usize>()
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$type> for Parameter {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })+
    };
}

from! {
    bool => Bool,
    i64 => Integer,
    i32 => Integer,
    u32 => Integer,
    f64 => Float,
    &str => Text,
    String => Text,
    Text => Text,
    Bytes => Bytes,
    Timestamp => Time,
    Uuid => Uuid,
}

impl<T: Into<Parameter>> From<Option<T>> for Parameter {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
