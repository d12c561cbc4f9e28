//! Questions that are asked in SQL, where the store runs on PostgreSQL: over the rows of its views and
//! over its events.

/// A question with parameters.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What to call it by.
    pub name: &'static str,
    /// What it answers.
    pub about: &'static str,
    /// What its parameters are, in order.
    pub parameters: &'static [&'static str],
    text: &'static str,
}

impl Report {
    /// The statement for the log in a schema. It answers as of the views' last checkpoint, which is
    /// seconds old at most while the store runs.
    pub fn sql(&self, schema: &str) -> String {
        self.text.replace("{schema}", schema)
    }
}

/// Orders, decisions and turnover by month.
pub const BUSINESS: Report = Report {
    name: "business",
    about: "orders, decisions and turnover by month",
    parameters: &[],
    text: include_str!("../reports/business.sql"),
};

/// Large orders that were shipped to new customers.
pub const LARGE_SHIPPED: Report = Report {
    name: "large-shipped",
    about: "shipped orders above an amount, of customers opened after a day",
    parameters: &["amount", "day"],
    text: include_str!("../reports/large_shipped.sql"),
};

/// All of them.
pub const ALL: [Report; 2] = [BUSINESS, LARGE_SHIPPED];
