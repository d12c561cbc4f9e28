//! Conditions on states and rows that can be sent to where these are.

use std::cmp::Ordering;
use std::ops::Not;
use std::str::FromStr;

use everfold_engine::Text;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A condition on the fields of a state or row, as its JSON shows them.
///
/// A closure cannot be sent to another node; this can.
/// ```
/// # use everfold_runtime::Filter;
/// let wanted = Filter::field("balance").at_least(100).and(!Filter::field("owner.city").is("Bern"));
/// assert_eq!(wanted, "balance>=100 and owner.city!=Bern".parse::<Filter>()?);
/// # Ok::<(), everfold_runtime::BadFilter>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filter(Condition);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Condition {
    #[default]
    Everything,
    Field(Vec<Text>, Test),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Test {
    Is(Operand),
    Below(Operand),
    AtMost(Operand),
    Above(Operand),
    AtLeast(Operand),
    Contains(Operand),
    BeginsWith(Text),
    Exists,
}

/// What a field is compared with: a number, text, or a truth value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operand(Scalar);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Scalar {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(Text),
}

/// A field to be compared.
///
/// Numbers are compared as numbers, text byte by byte. Where the field is missing or of another
/// kind, every comparison says no.
#[must_use = "a field is no filter before it is compared"]
#[derive(Clone, Debug)]
pub struct Field(Vec<Text>);

impl Filter {
    /// Lets everything through.
    pub fn everything() -> Self {
        Self::default()
    }

    /// A field by its path: names or places in lists, separated by dots.
    pub fn field(path: &str) -> Field {
        Field(path.split('.').map(Text::from).collect())
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Condition::Everything, other) | (other, Condition::Everything) => Self(other),
            (Condition::All(mut all), other) => {
                all.push(other);
                Self(Condition::All(all))
            }
            (this, other) => Self(Condition::All(vec![this, other])),
        }
    }

    /// One of them or both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Condition::Any(mut any), other) => {
                any.push(other);
                Self(Condition::Any(any))
            }
            (this, other) => Self(Condition::Any(vec![this, other])),
        }
    }

    /// Whether it asks nothing at all.
    pub(crate) fn is_everything(&self) -> bool {
        self.0 == Condition::Everything
    }

    /// Whether a state or row, as JSON, is let through.
    pub fn matches(&self, value: &Value) -> bool {
        self.0.holds(value)
    }
}

impl Not for Filter {
    type Output = Self;

    fn not(self) -> Self {
        Self(Condition::Not(Box::new(self.0)))
    }
}

impl Field {
    fn tested(self, test: Test) -> Filter {
        Filter(Condition::Field(self.0, test))
    }

    /// It equals `value`.
    pub fn is(self, value: impl Into<Operand>) -> Filter {
        self.tested(Test::Is(value.into()))
    }

    /// It is less than `value`.
    pub fn below(self, value: impl Into<Operand>) -> Filter {
        self.tested(Test::Below(value.into()))
    }

    /// It is `value` or less.
    pub fn at_most(self, value: impl Into<Operand>) -> Filter {
        self.tested(Test::AtMost(value.into()))
    }

    /// It is more than `value`.
    pub fn above(self, value: impl Into<Operand>) -> Filter {
        self.tested(Test::Above(value.into()))
    }

    /// It is `value` or more.
    pub fn at_least(self, value: impl Into<Operand>) -> Filter {
        self.tested(Test::AtLeast(value.into()))
    }

    /// It is a text with `value` somewhere in it, a list with it as an element, or an object with a
    /// field of that name.
    pub fn contains(self, value: impl Into<Operand>) -> Filter {
        self.tested(Test::Contains(value.into()))
    }

    /// It is a text that begins so.
    pub fn begins_with(self, text: impl Into<Text>) -> Filter {
        self.tested(Test::BeginsWith(text.into()))
    }

    /// It is there, and not null.
    pub fn exists(self) -> Filter {
        self.tested(Test::Exists)
    }
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Everything => true,
            Self::Field(path, test) => test.holds(find(value, path)),
            Self::All(all) => all.iter().all(|it| it.holds(value)),
            Self::Any(any) => any.iter().any(|it| it.holds(value)),
            Self::Not(not) => !not.holds(value),
        }
    }
}

fn find<'a>(value: &'a Value, path: &[Text]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Object(fields) => fields.get(&name[..]),
        Value::Array(elements) => elements.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        let ordered = |operand: &Operand, wanted: fn(Ordering) -> bool| {
            found.and_then(|it| operand.compare(it)).is_some_and(wanted)
        };
        match self {
            Self::Is(operand) => ordered(operand, Ordering::is_eq),
            Self::Below(operand) => ordered(operand, Ordering::is_lt),
            Self::AtMost(operand) => ordered(operand, Ordering::is_le),
            Self::Above(operand) => ordered(operand, Ordering::is_gt),
            Self::AtLeast(operand) => ordered(operand, Ordering::is_ge),
            Self::Contains(operand) => match (found, &operand.0) {
                (Some(Value::String(text)), Scalar::Text(part)) => text.contains(&part[..]),
                (Some(Value::Object(fields)), Scalar::Text(name)) => fields.contains_key(&name[..]),
                (Some(Value::Array(elements)), _) => elements
                    .iter()
                    .any(|element| operand.compare(element) == Some(Ordering::Equal)),
                _ => false,
            },
            Self::BeginsWith(part) => {
                matches!(found, Some(Value::String(text)) if text.starts_with(&part[..]))
            }
            Self::Exists => found.is_some_and(|found| !found.is_null()),
        }
    }
}

impl Operand {
    /// How `value` compares with it; nothing where they cannot be compared.
    fn compare(&self, value: &Value) -> Option<Ordering> {
        match (value, &self.0) {
            (Value::Null, Scalar::Null) => Some(Ordering::Equal),
            (Value::Bool(value), Scalar::Bool(with)) => Some(value.cmp(with)),
            (Value::String(value), Scalar::Text(with)) => {
                Some(value.as_bytes().cmp(with.as_bytes()))
            }
            (Value::Number(value), Scalar::Integer(with)) => match integer(value) {
                // Whole numbers are compared exactly: an amount may have more digits than a float.
                Some(value) => Some(value.cmp(with)),
                None => value.as_f64()?.partial_cmp(&(*with as f64)),
            },
            (Value::Number(value), Scalar::Float(with)) => value.as_f64()?.partial_cmp(with),
            _ => None,
        }
    }
}

fn integer(number: &serde_json::Number) -> Option<i128> {
    let signed = number.as_i64().map(i128::from);
    signed.or_else(|| number.as_u64().map(i128::from))
}

macro_rules! operand {
    ($variant:ident: $($type:ty),+) => {
        $(impl From<$type> for Operand {
            fn from(value: $type) -> Self {
                Self(Scalar::$variant(value.into()))
            }
        })+
    };
}

operand!(Bool: bool);
operand!(Integer: i8, i16, i32, i64, i128, u8, u16, u32, u64);
operand!(Float: f32, f64);
operand!(Text: &str, String, Text);

/// A filter's text that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no condition: write a field, then =, !=, <, <=, >, >= or ~ (contains), then a value; `balance>=100`, `owner.city=Bern`, `closed!=true`"
)]
pub struct BadFilter(String);

impl FromStr for Filter {
    type Err = BadFilter;

    /// Conditions joined by ` and `, each a field's path, a sign (`=`, `!=`, `<`, `<=`, `>`, `>=`, or
    /// `~` for contains) and a value. What reads as a number, `true`, `false` or `null` is that, and
    /// text in double quotes is text in any case; anything else is text.
    fn from_str(text: &str) -> Result<Self, BadFilter> {
        let mut filter = Self::everything();
        let mut rest = text;
        loop {
            let (first, others) = first_of(rest);
            filter = filter.and(condition(first).ok_or_else(|| BadFilter(first.to_owned()))?);
            match others {
                Some(others) => rest = others,
                None => return Ok(filter),
            }
        }
    }
}

/// A condition and those behind it.
fn first_of(text: &str) -> (&str, Option<&str>) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if let Some(others) = text[at..].strip_prefix(" and ") {
                    return (&text[..at], Some(others));
                }
            }
            _ => {}
        }
    }
    (text, None)
}

fn condition(text: &str) -> Option<Filter> {
    let at = text.find(['=', '!', '<', '>', '~'])?;
    let (path, rest) = text.split_at(at);
    let signs = ["!=", "<=", ">=", "=", "<", ">", "~"];
    let sign = signs.into_iter().find(|it| rest.starts_with(it))?;
    let path = path.trim();
    if path.split('.').any(str::is_empty) {
        return None;
    }
    let value = read(rest[sign.len()..].trim());
    let field = Filter::field(path);
    Some(match sign {
        "=" => field.is(value),
        "!=" => !field.is(value),
        "<" => field.below(value),
        "<=" => field.at_most(value),
        ">" => field.above(value),
        ">=" => field.at_least(value),
        _ => field.contains(value),
    })
}

fn read(text: &str) -> Operand {
    Operand(match serde_json::from_str(text) {
        Ok(Value::Null) => Scalar::Null,
        Ok(Value::Bool(value)) => Scalar::Bool(value),
        Ok(Value::String(value)) => Scalar::Text(value.into()),
        Ok(Value::Number(value)) => match (integer(&value), value.as_f64()) {
            (Some(value), _) => Scalar::Integer(value),
            (None, Some(value)) => Scalar::Float(value),
            (None, None) => Scalar::Text(text.into()),
        },
        _ => Scalar::Text(text.into()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn holds(text: &str, state: &Value) -> bool {
        text.parse::<Filter>().unwrap().matches(state)
    }

    #[test]
    fn conditions_are_those_of_the_values_kind() {
        let state = json!({
            "balance": 120, "rate": 0.5, "large": 9_007_199_254_740_993_u64, "name": "Ann and \"Bo\"",
            "tags": ["vip", 7], "owner": {"city": "Bern"}, "closed": false, "left": null,
        });
        for yes in [
            "balance=120",
            "balance>=120",
            "balance<121",
            "balance>119.5",
            "rate=0.5",
            "rate<1",
            "large=9007199254740993",
            "large>9007199254740992",
            "owner.city=Bern",
            "owner~city",
            "tags~vip",
            "tags~7",
            "tags.0=vip",
            "closed=false",
            "closed!=true",
            "left=null",
            "missing!=1",
            "name~and",
            "name=\"Ann and \\\"Bo\\\"\" and balance>1",
            "owner.city>=Bern",
        ] {
            assert!(holds(yes, &state), "{yes}");
        }
        for no in [
            "balance=121",
            "balance=\"120\"",
            "large=9007199254740992",
            "owner.city=bern",
            "missing=1",
            "missing<1",
            "tags~vi",
            "tags.2=vip",
            "closed=0",
            "name~or",
            "balance>1 and balance<120",
            "owner>1",
        ] {
            assert!(!holds(no, &state), "{no}");
        }
        let either = Filter::field("balance")
            .is(1)
            .or(Filter::field("owner.city").begins_with("Be"));
        assert!(either.matches(&state) && !(!either).matches(&state));
        assert!(Filter::field("closed").exists().matches(&state));
        assert!(!Filter::field("left").exists().matches(&state));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for bad in [
            "",
            "balance",
            "=1",
            "a..b=1",
            ".a=1",
            "a!1",
            "a=1 and ",
            "a=1 and b",
        ] {
            let refused = bad.parse::<Filter>().unwrap_err();
            assert!(refused.to_string().contains("no condition"), "{refused}");
        }
    }
}
