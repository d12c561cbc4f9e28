//! Amounts of money in integer minor units: what moves, and what an account stands at.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What may be moved: 1 to 2^63 - 1 minor units (cents, say). Never zero, never negative.
///
/// In JSON it is a string of digits: most readers of JSON make floats of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(NonZeroU64);

/// Something that is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    /// Anything else than digits.
    #[error("an amount is a whole number of minor units, written in digits, like 1250")]
    NotANumber,
    /// Nothing.
    #[error("an amount is not zero: there is nothing to move")]
    Zero,
    /// Below zero.
    #[error("an amount is not negative: exchange payer and payee instead")]
    Negative,
    /// Beyond 2^63 - 1.
    #[error("an amount is at most {}", i64::MAX)]
    TooLarge,
}

impl Amount {
    /// The largest amount.
    pub const MAX: Self = Self(match NonZeroU64::new(i64::MAX as u64) {
        Some(most) => most,
        None => NonZeroU64::MIN,
    });

    /// So many minor units.
    ///
    /// # Errors
    /// [`BadAmount`]: zero, negative or too large; ask for another amount.
    pub fn new(minor: i128) -> Result<Self, BadAmount> {
        if minor < 0 {
            return Err(BadAmount::Negative);
        }
        let minor = u64::try_from(minor).map_err(|_| BadAmount::TooLarge)?;
        let amount = NonZeroU64::new(minor).map(Self).ok_or(BadAmount::Zero)?;
        (amount <= Self::MAX)
            .then_some(amount)
            .ok_or(BadAmount::TooLarge)
    }

    /// In minor units.
    pub fn minor(self) -> i128 {
        i128::from(self.0.get())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadAmount::NotANumber);
        }
        if digits.bytes().all(|byte| byte == b'0') {
            return Err(BadAmount::Zero);
        }
        if digits.len() < text.len() {
            return Err(BadAmount::Negative);
        }
        Self::new(text.parse().map_err(|_| BadAmount::TooLarge)?)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What an account stands at, and sums over accounts: minor units, below zero too.
///
/// Accounts keep within 64 bits ([`Balance::ACCOUNT_MAX`]), so that no sum over them overflows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Balance(i128);

impl Balance {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most that one account holds, and the widest overdraft limit.
    pub const ACCOUNT_MAX: Self = Self(i64::MAX as i128);

    /// So many minor units.
    pub const fn new(minor: i128) -> Self {
        Self(minor)
    }

    /// In minor units.
    pub const fn minor(self) -> i128 {
        self.0
    }

    /// Whether it is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The sum; none if it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference; none if it does not fit.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// With so much more. For what a decision has found to fit.
    #[must_use]
    pub fn plus(self, other: impl Into<Self>) -> Self {
        Self(self.0.saturating_add(other.into().0))
    }

    /// With so much less. For what a decision has found to fit.
    #[must_use]
    pub fn minus(self, other: impl Into<Self>) -> Self {
        Self(self.0.saturating_sub(other.into().0))
    }
}

impl From<Amount> for Balance {
    fn from(amount: Amount) -> Self {
        Self(amount.minor())
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Balance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_amount_is_a_positive_whole_number() {
        assert_eq!("1250".parse(), Ok(Amount::new(1250).unwrap()));
        assert_eq!("9223372036854775807".parse(), Ok(Amount::MAX));
        for (text, fault) in [
            ("0", BadAmount::Zero),
            ("-0", BadAmount::Zero),
            ("-5", BadAmount::Negative),
            ("9223372036854775808", BadAmount::TooLarge),
            (
                "99999999999999999999999999999999999999999999",
                BadAmount::TooLarge,
            ),
            ("", BadAmount::NotANumber),
            ("-", BadAmount::NotANumber),
            ("+1", BadAmount::NotANumber),
            ("1.5", BadAmount::NotANumber),
            (" 1", BadAmount::NotANumber),
            ("1e3", BadAmount::NotANumber),
            ("١", BadAmount::NotANumber),
        ] {
            assert_eq!(text.parse::<Amount>(), Err(fault), "{text:?}");
        }
        assert_eq!(Amount::new(0), Err(BadAmount::Zero));
        assert_eq!(Amount::new(-1), Err(BadAmount::Negative));
        assert_eq!(Amount::new(1 << 63), Err(BadAmount::TooLarge));
        assert_eq!(Amount::new(i128::MAX), Err(BadAmount::TooLarge));
    }

    #[test]
    fn json_holds_digits_in_a_string_and_no_number() {
        let amount = Amount::new(1250).unwrap();
        assert_eq!(serde_json::to_string(&amount).unwrap(), r#""1250""#);
        assert_eq!(serde_json::to_string(&Balance::new(-5)).unwrap(), r#""-5""#);
        for json in ["5", "5.0", "null", r#""0""#, r#""-1""#, r#""x""#] {
            assert!(serde_json::from_str::<Amount>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Balance>("5").is_err());
    }

    proptest! {
        #[test]
        fn every_amount_survives_json(minor in 1..=i64::MAX) {
            let amount = Amount::new(minor.into()).unwrap();
            let json = serde_json::to_string(&amount).unwrap();
            prop_assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.]{0,44}|\\PC{0,8}") {
            if let Ok(amount) = text.parse::<Amount>() {
                prop_assert_eq!(amount.minor().to_string(), text.trim_start_matches('0'));
            }
        }
    }
}
