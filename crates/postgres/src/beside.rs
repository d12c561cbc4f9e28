//! Statements for tables beside the log.

use bytes::{BufMut, BytesMut};
use deadpool_postgres::Object;
use everfold_engine::engine::{AppendError, Parameter, Refusal, Statement};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use crate::error::{append_error, told};

/// What a statement may begin with: none of these ends the transaction that it runs in.
const VERBS: &[&str] = &[
    "insert", "update", "delete", "merge", "with", "select", "call",
];

/// Makes a statement ready. What fails here has changed nothing.
pub(crate) async fn prepare(
    client: &Object,
    statement: &Statement,
) -> Result<(tokio_postgres::Statement, Vec<Value>), AppendError> {
    let refuse = |reason: String| AppendError::Refused(Refusal::Statement(reason));
    let text = statement.text.trim_start();
    let verb = text.split(|c: char| !c.is_ascii_alphabetic()).next();
    let verb = verb.unwrap_or_default().to_ascii_lowercase();
    if !VERBS.contains(&verb.as_str()) {
        return Err(refuse(format!(
            "{text:?} begins with none of {}",
            VERBS.join(", ")
        )));
    }
    let prepared = client.prepare_cached(&statement.text).await;
    let prepared = prepared.map_err(|problem| error(&problem))?;
    let (wanted, given) = (prepared.params().len(), statement.parameters.len());
    if wanted != given {
        return Err(refuse(format!(
            "{text:?} takes {wanted} parameters and was given {given}"
        )));
    }
    let values = statement.parameters.iter().map(Value::of);
    let values: Result<Vec<Value>, String> = values.collect();
    Ok((prepared, values.map_err(refuse)?))
}

/// Statements that a session keeps ready at most.
const READY: usize = 200;

/// Forgets what was made ready where that may be why an append failed, for a table may have changed,
/// and where it has become much, for texts may differ every time.
pub(crate) fn tidy<T>(client: &Object, outcome: &Result<T, AppendError>) {
    let failed = matches!(outcome, Err(AppendError::Refused(Refusal::Statement(_))));
    if failed || client.statement_cache.size() > READY {
        client.statement_cache.clear();
    }
}

/// A statement of the application that failed, unless it was the connection.
pub(crate) fn error(error: &tokio_postgres::Error) -> AppendError {
    match append_error(error) {
        AppendError::Refused(refusal @ Refusal::Full(_)) => refusal.into(),
        AppendError::Refused(_) => Refusal::Statement(told(error)).into(),
        unknown => unknown,
    }
}

/// A parameter, sent as text: the server makes of it what stands at its place.
#[derive(Debug)]
pub(crate) struct Value(Option<String>);

impl Value {
    fn of(parameter: &Parameter) -> Result<Self, String> {
        let text = match parameter {
            Parameter::Null => return Ok(Self(None)),
            Parameter::Bool(value) => value.to_string(),
            Parameter::Integer(value) => value.to_string(),
            Parameter::Float(value) if value.is_finite() => value.to_string(),
            Parameter::Float(value) if value.is_nan() => "NaN".to_owned(),
            Parameter::Float(value) if *value > 0.0 => "Infinity".to_owned(),
            Parameter::Float(_) => "-Infinity".to_owned(),
            Parameter::Text(text) if text.contains('\0') => {
                return Err("PostgreSQL holds no text with a NUL in it".to_owned());
            }
            Parameter::Text(text) => text.to_string(),
            Parameter::Time(time) => time.to_string(),
            Parameter::Uuid(id) => id.to_string(),
            Parameter::Bytes(bytes) => {
                let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
                format!("\\x{}", digits.collect::<String>())
            }
        };
        Ok(Self(Some(text)))
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else {
            return Ok(IsNull::Yes);
        };
        out.put_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
