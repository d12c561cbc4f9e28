//! A purchase history as text: one line per purchase, columns separated by spaces.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use everfold::engine::Timestamp;
use everfold_store::money::Money;
use flate2::read::MultiGzDecoder;

use crate::failure::refused;

#[cfg(test)]
mod tests;

/// The history that comes with the program; its README says where it is from.
static SHIPPED: &[u8] = include_bytes!("../data/cdnow.txt.gz");
/// More than this, unpacked, is no purchase history but a mistake.
const MOST_BYTES: u64 = 1 << 30;

/// One purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// The line it was read from, from 1.
    pub line: usize,
    /// The day.
    pub date: Timestamp,
    /// How many items.
    pub quantity: u32,
    /// What they cost together.
    pub total: Money,
}

/// All purchases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Per customer, by date, in the order of the lines within a day.
    pub customers: BTreeMap<String, Vec<Purchase>>,
    /// The last date of all.
    pub last_day: Timestamp,
    /// Tells this history from others.
    pub fingerprint: String,
}

impl History {
    /// How many purchases there are.
    pub fn purchases(&self) -> usize {
        self.customers.values().map(Vec::len).sum()
    }
}

/// A line that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: String,
}

/// Reads a file, packed or not; without one, the history that comes with the program.
///
/// # Errors
/// The file cannot be read, or a line of it cannot be understood.
pub fn read(file: Option<&Path>) -> anyhow::Result<History> {
    let Some(path) = file else {
        let text = unpacked(SHIPPED.to_vec()).context("the data in this program is damaged")?;
        return Ok(parse(&text)?);
    };
    let name = path.display();
    let bytes = fs::read(path).with_context(|| format!("{name} cannot be read"))?;
    let text = unpacked(bytes).with_context(|| format!("{name} cannot be unpacked"))?;
    parse(&text).map_err(|bad| {
        refused(format!(
            "{name}, {bad}; correct the line and start again: nothing was loaded"
        ))
    })
}

fn unpacked(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut text = Vec::new();
    let mut decoder = MultiGzDecoder::new(bytes.as_slice()).take(MOST_BYTES + 1);
    decoder.read_to_end(&mut text)?;
    anyhow::ensure!(
        text.len() as u64 <= MOST_BYTES,
        "it holds more than {MOST_BYTES} bytes"
    );
    Ok(text)
}

/// Reads the text of a history.
///
/// # Errors
/// [`BadLine`] names the first line that cannot be understood.
pub fn parse(text: &[u8]) -> Result<History, BadLine> {
    let mut customers: BTreeMap<String, Vec<Purchase>> = BTreeMap::new();
    let mut last_day = None;
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    for (number, bytes) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        let bad = |fault: String| BadLine {
            line: number,
            fault,
        };
        let line = std::str::from_utf8(bytes).map_err(|_| bad("it is no text".into()))?;
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        if number == 1 && columns.first() == Some(&"customer_id") {
            continue;
        }
        let (customer, purchase) = purchase(number, &columns).map_err(bad)?;
        last_day = last_day.max(Some(purchase.date));
        customers.entry(customer).or_default().push(purchase);
    }
    let last_day = last_day.ok_or_else(|| BadLine {
        line: 1,
        fault: "there is no purchase in it".into(),
    })?;
    for purchases in customers.values_mut() {
        purchases.sort_by_key(|purchase| purchase.date);
    }
    Ok(History {
        customers,
        last_day,
        fingerprint: blake3::hash(text).to_hex().to_string(),
    })
}

fn purchase(line: usize, columns: &[&str]) -> Result<(String, Purchase), String> {
    let &[customer, date, quantity, total] = columns else {
        return Err(format!(
            "{} columns; a purchase has four: customer, date, number of items, dollars",
            columns.len()
        ));
    };
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if customer.len() > 64 || !customer.chars().all(is_plain) {
        return Err(format!(
            "customer {customer:?}: up to 64 letters, digits, '-', '_' and '.'"
        ));
    }
    let amount: Money = total
        .parse()
        .map_err(|error| format!("amount {total:?}: {error}"))?;
    if amount.is_negative() {
        return Err(format!("amount {total:?}: a purchase costs zero or more"));
    }
    let quantity = quantity
        .parse()
        .map_err(|_| format!("number of items {quantity:?}: a whole number, zero or more"))?;
    Ok((
        customer.to_owned(),
        Purchase {
            line,
            date: day(date)?,
            quantity,
            total: amount,
        },
    ))
}

fn day(text: &str) -> Result<Timestamp, String> {
    let bad = || format!("date {text:?}: a day of the calendar, written like 19970131");
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number: i64 = text.parse().map_err(|_| bad())?;
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    let (month, day) = (month as u32, day as u32);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(bad());
    }
    let date = Timestamp::from_date(year, month, day);
    // The 31st of April is the 1st of May.
    if date.date() == (year, month, day) {
        Ok(date)
    } else {
        Err(bad())
    }
}
