//! Answers to requests that were not done.

use std::time::Duration;

use axum::Json;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use everfold::engine::engine::ReadError;
use everfold::{CommandError, QueryError, SendError};
use serde::Serialize;
use serde_json::{Value, json};

use crate::customer::CustomerRejection;
use crate::order::OrderRejection;

/// A request that was not done: a status, a kind for programs and a sentence for people.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    kind: String,
    message: String,
    details: Option<(&'static str, Value)>,
    retry_after: Option<Duration>,
}

impl Failure {
    /// Of any kind.
    pub fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            message: message.into(),
            details: None,
            retry_after: None,
        }
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// What it asks for does not exist.
    pub fn not_found(what: &str, id: &str) -> Self {
        let kind = format!("UNKNOWN_{}", what.to_uppercase());
        let message = format!("there is no {what} {id:?}");
        Self::new(StatusCode::NOT_FOUND, &kind, message)
    }

    /// The answer would not reflect the token.
    pub fn behind(behind: u64, message: impl Into<String>) -> Self {
        let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "BEHIND", message);
        failure.details = Some(("behind", behind.into()));
        failure
    }

    fn rejected<R: Serialize + std::fmt::Display>(status: StatusCode, rejection: &R) -> Self {
        let (kind, details) = match serde_json::to_value(rejection) {
            Ok(Value::String(kind)) => (kind, None),
            Ok(Value::Object(fields)) => match fields.into_iter().next() {
                Some((kind, details)) => (kind, Some(("details", details))),
                None => ("REJECTED".to_owned(), None),
            },
            _ => ("REJECTED".to_owned(), None),
        };
        Self {
            status,
            kind,
            message: rejection.to_string(),
            details,
            retry_after: None,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut error = json!({ "kind": self.kind, "message": self.message });
        if let Some((name, value)) = self.details {
            error[name] = value;
        }
        if let Some(retry_after) = self.retry_after {
            error["retry_after_ms"] = (retry_after.as_millis() as u64).into();
        }
        let body = Json(json!({ "error": error }));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = self
                .retry_after
                .unwrap_or_default()
                .as_millis()
                .div_ceil(1000);
            let seconds = seconds.max(1).to_string();
            return (self.status, [(header::RETRY_AFTER, seconds)], body).into_response();
        }
        (self.status, body).into_response()
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let (status, kind) = match &error {
            CommandError::BadName(_) => (StatusCode::BAD_REQUEST, "BAD_NAME"),
            CommandError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE"),
            CommandError::IdReused(_) => (StatusCode::CONFLICT, "IDEMPOTENCY_KEY_REUSED"),
            CommandError::IdExpired { .. } => (StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_EXPIRED"),
            CommandError::Conflict(_) => (StatusCode::CONFLICT, "CONFLICT"),
            CommandError::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED"),
            CommandError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN"),
            CommandError::Unavailable { .. }
            | CommandError::Fenced(_)
            | CommandError::NewerBuild { .. } => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            CommandError::Unknown(_) | CommandError::Deadline | CommandError::NoOwner { .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "OUTCOME_UNKNOWN")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "FAILED"),
        };
        let mut failure = Self::new(status, kind, error.to_string());
        failure.retry_after = error.retry_after();
        failure
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Behind { behind, .. } => Self::behind(behind, error.to_string()),
            QueryError::NotReached { behind, .. } => Self::behind(behind, error.to_string()),
            QueryError::ForeignPosition(error) => Self::bad_request(error.to_string()),
            QueryError::Read(error) => error.into(),
            QueryError::Owner(error) => error.into(),
            error => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, "FAILED", error.to_string())
            }
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let (status, kind) = match error {
            ReadError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            ReadError::NoPartition(_) => (StatusCode::NOT_FOUND, "UNKNOWN_PARTITION"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "FAILED"),
        };
        Self::new(status, kind, error.to_string())
    }
}

impl From<SendError<CustomerRejection>> for Failure {
    fn from(error: SendError<CustomerRejection>) -> Self {
        let rejection = match error {
            SendError::Rejected(rejection) => rejection,
            SendError::Failed(error) => return error.into(),
        };
        let status = match rejection {
            CustomerRejection::UnknownCustomer => StatusCode::NOT_FOUND,
            CustomerRejection::EmptyName | CustomerRejection::NegativeLimit => {
                StatusCode::BAD_REQUEST
            }
            CustomerRejection::Closed
            | CustomerRejection::OpenedDifferently
            | CustomerRejection::CreditReserved { .. } => StatusCode::CONFLICT,
        };
        Self::rejected(status, &rejection)
    }
}

impl From<SendError<OrderRejection>> for Failure {
    fn from(error: SendError<OrderRejection>) -> Self {
        let rejection = match error {
            SendError::Rejected(rejection) => rejection,
            SendError::Failed(error) => return error.into(),
        };
        let status = match rejection {
            OrderRejection::UnknownOrder => StatusCode::NOT_FOUND,
            OrderRejection::NegativeTotal | OrderRejection::WrongTotal => StatusCode::BAD_REQUEST,
            _ => StatusCode::CONFLICT,
        };
        Self::rejected(status, &rejection)
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Failure {
    let message = format!("there is nothing at {}", uri.path());
    Failure::new(StatusCode::NOT_FOUND, "UNKNOWN_PATH", message)
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let message = format!("{} does not take {method}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "UNKNOWN_METHOD", message)
}

#[cfg(test)]
mod tests {
    use everfold::engine::slot::Partition;

    use super::*;

    /// Attacks: a client that is refused because too much waits is not told when to come back.
    #[tokio::test]
    async fn who_is_refused_hears_when_to_come_back() {
        let overloaded = CommandError::Overloaded {
            partition: Partition(3),
            retry_after: Duration::from_millis(1200),
        };
        let response = Failure::from(QueryError::from(overloaded)).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await;
        let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(body["error"]["kind"], "OVERLOADED");
        assert_eq!(body["error"]["retry_after_ms"], 1200);
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("1200 ms"), "{message}");
    }
}
