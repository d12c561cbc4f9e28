//! Moments: civil time, the hybrid logical clock and the stamp that orders partitions.

use crate::slot::Partition;

/// Microseconds since 1970-01-01T00:00:00Z, negative before. Business time may be any value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// A moment given in milliseconds since 1970.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Milliseconds since 1970, rounded down.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Midnight UTC of a proleptic Gregorian day, month and day counted from 1.
    pub fn from_date(year: i64, month: u32, day: u32) -> Self {
        Self(days_from_civil(year, month, day).saturating_mul(86_400_000_000))
    }

    /// Year, month and day in UTC.
    pub fn date(self) -> (i64, u32, u32) {
        civil_from_days(self.0.div_euclid(86_400_000_000))
    }

    /// This moment moved by whole days.
    pub fn plus_days(self, days: i64) -> Self {
        Self(self.0.saturating_add(days.saturating_mul(86_400_000_000)))
    }
}

/// A text that says no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time: write 2026-01-31, or 2026-01-31T14:05:00Z in UTC")]
pub struct NotATime(String);

impl std::str::FromStr for Timestamp {
    type Err = NotATime;

    /// A day, or a time in UTC as RFC 3339 writes it; a fraction of up to six digits.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let parse = || {
            let (day, time) = match text.split_once('T') {
                Some((day, time)) => (day, time.strip_suffix('Z')?),
                None => (text, "00:00:00"),
            };
            let number = |text: &str, digits: usize| {
                let right = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
                right.then(|| text.parse::<u32>().ok()).flatten()
            };
            let mut parts = day.split('-');
            let year = number(parts.next()?, 4)?;
            let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
            if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
                return None;
            }
            let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
            let micros = number(fraction, fraction.len().clamp(1, 6))?;
            let micros = micros * 10_u32.pow(6 - fraction.len() as u32);
            let mut parts = time.split(':');
            let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
            let second = number(parts.next()?, 2)?;
            if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
                return None;
            }
            let start = Self::from_date(i64::from(year), month, day);
            let seconds = i64::from(hour * 3600 + minute * 60 + second);
            // The 31st of a month of 30 days is no day.
            let is_day = start.date() == (i64::from(year), month, day);
            is_day.then_some(Self(start.0 + seconds * 1_000_000 + i64::from(micros)))
        };
        parse().ok_or_else(|| NotATime(text.to_owned()))
    }
}

impl std::fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with microseconds where there are any.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.date();
        let micros = self.0.rem_euclid(86_400_000_000);
        let seconds = micros / 1_000_000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        match micros % 1_000_000 {
            0 => f.write_str("Z"),
            fraction => write!(f, ".{fraction:06}Z"),
        }
    }
}

// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2021.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_index + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A hybrid logical clock reading: 48 bits of milliseconds, 16 of a counter that carries into them.
///
/// After Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical Physical Clocks", 2014.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HybridTime(pub u64);

impl HybridTime {
    /// The next reading of a clock that last read `self`, at physical time `now`.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Self {
        let physical = (now.millis().max(0) as u64) << 16;
        Self(physical.max(self.0.saturating_add(1)))
    }

    /// The physical part, in milliseconds since 1970.
    pub fn millis(self) -> i64 {
        (self.0 >> 16) as i64
    }
}

/// The local order of events over all partitions of one log: 43 bits of milliseconds, 10 of a
/// counter that carries into them, 10 of the partition. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stamp(pub i64);

impl Stamp {
    const PARTITION_BITS: u32 = 10;
    const COUNTER_BITS: u32 = 10;

    /// The lowest stamp of `partition` at or after `now` that is above `floor`.
    #[must_use]
    pub fn next(floor: Stamp, now: Timestamp, partition: Partition) -> Self {
        let clock = now.millis().max(0) << Self::COUNTER_BITS;
        let above = (floor.0 >> Self::PARTITION_BITS) + 1;
        Self((clock.max(above) << Self::PARTITION_BITS) | i64::from(partition.0))
    }

    /// The lowest stamp of the millisecond that `time` lies in.
    pub fn first_of(time: Timestamp) -> Self {
        let bits = Self::PARTITION_BITS + Self::COUNTER_BITS;
        Self(time.millis().clamp(0, i64::MAX >> bits) << bits)
    }

    /// The clock part, in milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.0 >> (Self::PARTITION_BITS + Self::COUNTER_BITS)
    }

    /// The partition that gave this stamp.
    pub fn partition(self) -> Partition {
        Partition((self.0 & ((1 << Self::PARTITION_BITS) - 1)) as u16)
    }

    /// When this stamp was given, to the millisecond.
    pub fn time(self) -> Timestamp {
        Timestamp::from_millis(self.millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for text in ["1998-06-30T00:00:00Z", "2026-02-28T23:59:59.000120Z"] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.to_string(), text);
        }
        let day: Timestamp = "1998-06-30".parse().unwrap();
        assert_eq!(day, Timestamp::from_date(1998, 6, 30));
        let half: Timestamp = "1970-01-01T00:00:00.5Z".parse().unwrap();
        assert_eq!(half, Timestamp(500_000));
        for text in [
            "",
            "yesterday",
            "2026-02-30",
            "2026-13-01",
            "26-01-01",
            "2026-01-01T10:00:00",
            "2026-01-01T25:00:00Z",
            "2026-01-01T10:00Z",
            "2026-01-01T10:00:00.1234567Z",
            "2026-01-+1",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn dates_round_trip() {
        assert_eq!(Timestamp::from_date(1970, 1, 1), Timestamp(0));
        assert_eq!(
            Timestamp::from_date(1998, 6, 30).to_string(),
            "1998-06-30T00:00:00Z"
        );
        for day in -800_000..800_000 {
            let moment = Timestamp(day * 86_400_000_000);
            let (year, month, date) = moment.date();
            assert_eq!(Timestamp::from_date(year, month, date), moment);
        }
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn stamps_grow_while_the_clock_stands_or_steps_back() {
        let partition = Partition(1023);
        let mut last = Stamp::default();
        for now in [5, 5, 5, 3, 6].into_iter().cycle().take(5000) {
            let next = Stamp::next(last, Timestamp::from_millis(now), partition);
            assert!(next > last);
            assert_eq!(next.partition(), partition);
            last = next;
        }
    }

    #[test]
    fn the_hybrid_counter_carries_into_the_physical_part() {
        let mut clock = HybridTime::default().next(Timestamp::from_millis(7));
        for _ in 0..70_000 {
            clock = clock.next(Timestamp::from_millis(7));
        }
        assert_eq!(clock.millis(), 8);
    }
}
