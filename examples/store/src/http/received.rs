//! Parts of a request, each refused in JSON if it makes no sense.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        if !is_json(request.headers()) {
            return Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "the body has to be JSON: send `Content-Type: application/json`",
            ));
        }
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "TOO_LARGE",
                format!("the body may hold {} bytes at most", super::BODY_BYTES),
            ),
            _ => Failure::bad_request(format!("the body cannot be read: {error}")),
        })?;
        // serde_json says in which line and column.
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Self)
            .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "BAD_BODY", error.to_string()))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let text = content_type.and_then(|value| value.to_str().ok());
    let media_type = text.and_then(|text| text.split(';').next());
    media_type.is_some_and(|media_type| {
        let media_type = media_type.trim().to_ascii_lowercase();
        media_type == "application/json" || media_type.ends_with("+json")
    })
}

/// The name in a path.
pub struct Name<T = String>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Name<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name))
            .map_err(|error| Failure::bad_request(error.body_text()))
    }
}

/// What stands behind the question mark.
pub(super) fn query<T: DeserializeOwned>(parts: &Parts) -> Result<T, Failure> {
    let query = Query::<T>::try_from_uri(&parts.uri);
    query
        .map(|Query(query)| query)
        .map_err(|error| Failure::bad_request(error.body_text()))
}

/// A header as text.
pub(super) fn text<'a>(parts: &'a Parts, name: &str) -> Result<Option<&'a str>, Failure> {
    let Some(value) = parts.headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str();
    text.map(Some)
        .map_err(|_| Failure::bad_request(format!("the header {name} is not plain text")))
}
