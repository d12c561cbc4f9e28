//! The rules of the demonstration, written down a second time and as plainly as possible.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

/// The first lines of the shipped history, without its header: those of whole customers, each of
/// them once.
pub(crate) fn lines_of_customers(customers: std::ops::Range<usize>) -> Vec<String> {
    let packed: &[u8] = include_bytes!("../../data/cdnow.txt.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .unwrap();
    let customer =
        |line: &str| -> usize { line.split_whitespace().next().unwrap().parse().unwrap() };
    let lines = text.lines().skip(1);
    lines
        .filter(|line| customers.contains(&customer(line)))
        .map(str::to_owned)
        .collect()
}

/// Customers, orders, approved, rejected, approved total, reserved at the end.
pub(crate) fn figures(lines: &[String], limit: i64, payment_days: i64) -> Value {
    let mut purchases: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
    for line in lines {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (dollars, cents) = columns[3].split_once('.').unwrap();
        let cents = dollars.parse::<i64>().unwrap() * 100 + cents.parse::<i64>().unwrap();
        let day = day_number(columns[1].parse().unwrap());
        purchases.entry(columns[0]).or_default().push((day, cents));
    }
    let last_day = *purchases
        .values()
        .flatten()
        .map(|(day, _)| day)
        .max()
        .unwrap();
    let (mut approved, mut rejected, mut total, mut reserved) = (0, 0, 0, 0);
    for orders in purchases.values_mut() {
        orders.sort_by_key(|(day, _)| *day);
        let mut unpaid: Vec<(i64, i64)> = Vec::new();
        for (day, cents) in orders {
            unpaid.retain(|(due, _)| due > day);
            if unpaid.iter().map(|(_, cents)| cents).sum::<i64>() + *cents <= limit {
                unpaid.push((*day + payment_days, *cents));
                approved += 1;
                total += *cents;
            } else {
                rejected += 1;
            }
        }
        unpaid.retain(|(due, _)| *due > last_day);
        reserved += unpaid.iter().map(|(_, cents)| cents).sum::<i64>();
    }
    let money = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
    json!({
        "customers": purchases.len(),
        "orders": lines.len(),
        "approved": approved,
        "rejected": rejected,
        "approved_total": money(total),
        "reserved_at_end": money(reserved),
    })
}

/// The parts of the program's figures that the model knows.
pub(crate) fn comparable(figures: &Value) -> Value {
    let names = [
        "customers",
        "orders",
        "approved",
        "rejected",
        "approved_total",
        "reserved_at_end",
    ];
    names
        .iter()
        .map(|name| ((*name).to_owned(), figures[name].clone()))
        .collect()
}

fn day_number(date: i64) -> i64 {
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let years: i64 = (1990..year)
        .map(|year| 365 + i64::from(is_leap(year)))
        .sum();
    let february = 28 + i64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    years + months[..month as usize - 1].iter().sum::<i64>() + day
}

#[test]
fn the_model_gives_the_known_figures_for_the_whole_history() {
    let lines = lines_of_customers(0..usize::MAX);
    let known = json!({
        "customers": 23_570,
        "orders": 69_659,
        "approved": 67_340,
        "rejected": 2_319,
        "approved_total": "2222200.67",
        "reserved_at_end": "64768.59",
    });
    assert_eq!(figures(&lines, 20_000, 30), known);
}
