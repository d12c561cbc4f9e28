//! Amounts of money, exact to the cent.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in cents, written `12.34` wherever people or JSON see it.
///
/// There is no arithmetic that could round or overflow unnoticed, and no way from a float: JSON
/// numbers are refused, because most readers of JSON make floats of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);
    /// The lowest amount.
    pub const MIN: Self = Self(i64::MIN);

    /// An amount given in cents.
    pub const fn from_cents(cents: i64) -> Self {
        Self(cents)
    }

    /// The amount in cents.
    pub const fn cents(self) -> i64 {
        self.0
    }

    /// Whether the amount is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The sum; none if it is too large to be an amount.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference; none if it is too large to be an amount.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum of all; none if it is too large to be an amount.
    pub fn sum(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// The sum, or the nearest amount there is: for displays, never for decisions.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or the nearest amount there is: for displays, never for decisions.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = self.0.unsigned_abs();
        let digits = format!("{}.{:02}", cents / 100, cents % 100);
        f.pad_integral(self.0 >= 0, "", &digits)
    }
}

/// Text that is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMoney {
    /// Anything else than digits with an optional sign and decimals.
    #[error("an amount is written like 12.34: digits, a point, up to two decimals")]
    NotAnAmount,
    /// Cents have no parts.
    #[error("an amount has two decimals at most")]
    TooManyDecimals,
    /// Beyond 64 bits of cents.
    #[error("an amount lies between {} and {}", Money::MIN, Money::MAX)]
    OutOfRange,
}

impl FromStr for Money {
    type Err = BadMoney;

    /// Reads `12`, `12.3` or `12.34`, each with an optional `-`.
    fn from_str(text: &str) -> Result<Self, BadMoney> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) {
            return Err(BadMoney::NotAnAmount);
        }
        if decimals.len() > 2 {
            return Err(BadMoney::TooManyDecimals);
        }
        // Read in 128 bits, so that the lowest amount, which has no positive twin, is read as well.
        let cents: i128 = format!("{whole}{decimals:0<2}")
            .parse()
            .map_err(|_| BadMoney::OutOfRange)?;
        i64::try_from(sign * cents)
            .map(Self)
            .map_err(|_| BadMoney::OutOfRange)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_and_written_with_two_decimals() {
        let cases = [
            ("0", 0, "0.00"),
            ("12", 1200, "12.00"),
            ("12.3", 1230, "12.30"),
            ("12.34", 1234, "12.34"),
            ("-0.05", -5, "-0.05"),
            ("-0", 0, "0.00"),
            ("007", 700, "7.00"),
            ("92233720368547758.07", i64::MAX, "92233720368547758.07"),
            ("-92233720368547758.08", i64::MIN, "-92233720368547758.08"),
        ];
        for (text, cents, written) in cases {
            let money: Money = text.parse().unwrap();
            assert_eq!(money.cents(), cents, "{text}");
            assert_eq!(money.to_string(), written);
        }
        assert_eq!(
            format!("{:>8}|{:<7}|", Money(1234), Money(-5)),
            "   12.34|-0.05  |"
        );
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", "-", ".", ".5", "5.", "1,5", "+1", "--1", " 1", "1 ", "1e3", "NaN", "١",
        ] {
            assert_eq!(
                text.parse::<Money>(),
                Err(BadMoney::NotAnAmount),
                "{text:?}"
            );
        }
        for text in ["1.234", "1.000", "-0.001"] {
            assert_eq!(
                text.parse::<Money>(),
                Err(BadMoney::TooManyDecimals),
                "{text:?}"
            );
        }
        let endless = "9".repeat(400);
        for text in ["92233720368547758.08", "-92233720368547758.09", &endless] {
            assert_eq!(text.parse::<Money>(), Err(BadMoney::OutOfRange), "{text:?}");
        }
    }

    #[test]
    fn json_holds_text_and_no_number() {
        assert_eq!(serde_json::to_string(&Money(-5)).unwrap(), r#""-0.05""#);
        assert_eq!(
            serde_json::from_str::<Money>(r#""0.1""#).unwrap(),
            Money(10)
        );
        assert_eq!(
            serde_json::from_str::<Money>(r#""0\u002e1""#).unwrap(),
            Money(10)
        );
        for json in ["12.34", "12", r#""12.345""#, "null", r#""""#] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn arithmetic_does_not_wrap() {
        assert_eq!(Money::MAX.checked_add(Money(1)), None);
        assert_eq!(Money::MIN.checked_sub(Money(1)), None);
        assert_eq!(Money::sum([Money::MAX, Money(1), Money(-1)]), None);
        assert_eq!(Money::sum([]), Some(Money::ZERO));
        assert_eq!(Money::MAX.saturating_add(Money(1)), Money::MAX);
        assert_eq!(Money::MIN.saturating_sub(Money(1)), Money::MIN);
    }

    proptest! {
        #[test]
        fn every_amount_survives_text_and_json(cents: i64) {
            let money = Money(cents);
            prop_assert_eq!(money.to_string().parse(), Ok(money));
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        }

        #[test]
        fn sums_agree_with_wide_integers(all in proptest::collection::vec(any::<i64>(), 0..6)) {
            let mut exact = Some(0i128);
            for &cents in &all {
                exact = exact
                    .map(|sum| sum + i128::from(cents))
                    .filter(|&sum| i64::try_from(sum).is_ok());
            }
            let sum = Money::sum(all.into_iter().map(Money));
            prop_assert_eq!(sum.map(|sum| i128::from(sum.cents())), exact);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.,e ]{0,24}|\\PC{0,8}") {
            if let Ok(money) = text.parse::<Money>() {
                prop_assert_eq!(money.to_string().parse(), Ok(money));
            }
        }
    }
}
