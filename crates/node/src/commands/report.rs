//! `everfold report`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::ArgGroup;
use everfold::engine::engine::Engine as _;
use everfold::engine::{World, world::System};
use everfold_postgres::{Options, Postgres, ToSql};
use everfold_store::reports::{ALL, Report};
use serde_json::{Map, Value};

use crate::failure::refused;
use crate::output;
use crate::place::{Choice, ENVIRONMENT, Parser, Place, Reached};

/// Asks a store that is kept in PostgreSQL a question in SQL, over the rows of its views and its
/// events.
///
/// business: orders, decisions and turnover by month.
/// large-shipped AMOUNT DAY: shipped orders above an amount, of customers opened after a day.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("place").required(true).multiple(true).args(["data", "engine"])))]
pub struct Arguments {
    /// Which question
    name: String,
    /// What it needs to know, such as 50.00 1998-01-01
    parameters: Vec<String>,
    /// Directory of the demonstration on a private server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Database of the store, postgres://user:password@host/database
    #[arg(long, value_name = "ADDRESS", env = ENVIRONMENT, hide_env_values = true, value_parser = Parser)]
    engine: Option<Choice>,
    /// Print one JSON object per row
    #[arg(long)]
    json: bool,
    /// Print the statement, and ask nothing
    #[arg(long)]
    sql: bool,
}

/// Runs it.
///
/// # Errors
/// There is no such report, its parameters are wrong, or the database cannot be asked.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let report = find(&arguments)?;
    let place = Place::named(arguments.engine.as_ref(), arguments.data.as_deref())?;
    let reached = Reached::to_look_at(place)?;
    let Some(address) = reached.database() else {
        return Err(refused(
            "reports are asked in SQL, and this log is kept in files; keep it in PostgreSQL with \
             --engine, or look at it with `everfold events`",
        ));
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let asked = runtime.block_on(ask(address, &report, &arguments));
    drop(runtime);
    let answer = asked?;
    reached.close()?;
    match arguments.sql {
        true => output::line(answer.sql.trim_end()),
        false => answer.print(arguments.json),
    }
}

fn find(arguments: &Arguments) -> anyhow::Result<Report> {
    let known = ALL.iter().find(|report| report.name == arguments.name);
    let report = known.copied().ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|report| report.name).collect();
        let name = &arguments.name;
        refused(format!(
            "there is no report {name:?}, only {}",
            names.join(", ")
        ))
    })?;
    let (wanted, given) = (report.parameters.len(), arguments.parameters.len());
    if wanted != given && !arguments.sql {
        let usage = report.parameters.join(" ").to_uppercase();
        let name = report.name;
        return Err(refused(format!(
            "it takes {wanted} parameters and was given {given}: everfold report {name} {usage}"
        )));
    }
    Ok(report)
}

/// What was asked, and what came back: each row as its JSON, names in order.
struct Answer {
    sql: String,
    names: Vec<String>,
    rows: Vec<String>,
}

async fn ask(address: &str, report: &Report, arguments: &Arguments) -> anyhow::Result<Answer> {
    let world: Arc<dyn World> = System::current();
    let log = Postgres::open_read_only(address, world, Options::default()).await?;
    let sql = report.sql(log.schema());
    let mut answer = Answer {
        sql,
        names: Vec::new(),
        rows: Vec::new(),
    };
    if !arguments.sql {
        let session = log.session().await?;
        let prepared = session.prepare(&answer.sql).await?;
        let names = prepared
            .columns()
            .iter()
            .map(|column| column.name().to_owned());
        answer.names = names.collect();
        let wrapped = format!("select row_to_json(r)::text from ({}) r", answer.sql);
        let parameters = arguments.parameters.iter();
        let parameters: Vec<_> = parameters.map(|text| text as &(dyn ToSql + Sync)).collect();
        let rows = session.query(&wrapped, &parameters).await;
        let rows =
            rows.context("the question was not answered; see that amounts and days are right")?;
        answer.rows = rows.iter().map(|row| row.get(0)).collect();
    }
    log.close().await;
    Ok(answer)
}

impl Answer {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return self.rows.iter().try_for_each(|row| output::line(row));
        }
        let mut table = vec![self.names.clone()];
        for row in &self.rows {
            let row: Map<String, Value> = serde_json::from_str(row)?;
            let cell = |name: &String| match row.get(name) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => output::plain(text),
                Some(other) => other.to_string(),
            };
            table.push(self.names.iter().map(cell).collect());
        }
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..self.names.len()).filter_map(width).collect();
        for row in &table {
            let cells = row.iter().zip(&widths);
            let cells: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:>width$}"))
                .collect();
            output::line(&cells.join("  "))?;
        }
        Ok(())
    }
}
