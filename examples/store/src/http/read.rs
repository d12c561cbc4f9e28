//! How fresh an answer has to be, and which page of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use everfold::engine::Position;
use everfold::engine::engine::ReadError;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Shop;
use super::failure::Failure;
use super::received::{query, text};

/// How long a read waits until it reflects a token.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A question, with the token it has to reflect.
pub(super) struct Read<Q> {
    pub(super) query: Q,
    token: Option<Position>,
}

/// Parameters with a token among them.
pub(super) trait Question: DeserializeOwned {
    fn token(&self) -> Option<&str>;
}

/// A question about one thing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct One {
    position: Option<String>,
    after: Option<String>,
}

impl Question for One {
    fn token(&self) -> Option<&str> {
        self.position.as_deref().or(self.after.as_deref())
    }
}

impl<Q: Question> FromRequestParts<Arc<Shop>> for Read<Q> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shop: &Arc<Shop>) -> Result<Self, Failure> {
        let query: Q = query(parts)?;
        let header = text(parts, super::shown::POSITION)?;
        let token = header.or(query.token());
        let token = token.map(|token| position(shop, token)).transpose()?;
        Ok(Self { query, token })
    }
}

/// A token of this log.
pub(super) fn position(shop: &Shop, token: &str) -> Result<Position, Failure> {
    let position: Position = token
        .parse()
        .map_err(|error| Failure::bad_request(format!("{token:?}: {error}")))?;
    let checked = position.check(&shop.node.engine().identity().start());
    checked.map_err(|error| Failure::bad_request(error.to_string()))?;
    Ok(position)
}

impl<Q> Read<Q> {
    /// What the answer has to reflect: the token, or without one everything there is now.
    pub(super) async fn position(&self, shop: &Shop) -> Result<Position, ReadError> {
        match &self.token {
            Some(token) => Ok(token.clone()),
            None => shop.node.position().await,
        }
    }

    /// The same for what is known of one entity: the token alone would not show what happened to
    /// the entity itself by another hand.
    pub(super) async fn position_of(&self, shop: &Shop, id: &str) -> Result<Position, ReadError> {
        let mut position = self.position(shop).await?;
        let engine = shop.node.engine();
        let partition = engine.identity().layout.partition(id);
        position.advance(partition, engine.safe_head(partition).await?);
        Ok(position)
    }

    /// The token, if one was given.
    pub(super) fn token(&self) -> Option<&Position> {
        self.token.as_ref()
    }
}

/// How many things a page shows.
pub(super) fn checked_limit(limit: Option<usize>) -> Result<usize, Failure> {
    match limit.unwrap_or(100) {
        limit @ 1..=1000 => Ok(limit),
        limit => Err(Failure::bad_request(format!(
            "limit {limit}: a page shows 1 to 1000"
        ))),
    }
}

/// The lowest keys behind the last page, with what is shown of them.
pub(super) struct Page<T> {
    after: Option<String>,
    limit: usize,
    found: BTreeMap<String, T>,
}

impl<T> Page<T> {
    pub(super) fn new(after: &Option<String>, limit: Option<usize>) -> Result<Self, Failure> {
        Ok(Self {
            after: after.clone(),
            limit: checked_limit(limit)?,
            found: BTreeMap::new(),
        })
    }

    /// Offers one more; `show` is called if it may be on the page.
    pub(super) fn offer(&mut self, key: &str, show: impl FnOnce() -> T) {
        if self.after.as_deref().is_some_and(|after| key <= after) {
            return;
        }
        // One more than the page shows, to know whether there is another page.
        let is_full = self.found.len() > self.limit;
        if is_full
            && self
                .found
                .last_key_value()
                .is_some_and(|(last, _)| key > last.as_str())
        {
            return;
        }
        self.found.insert(key.to_owned(), show());
        if self.found.len() > self.limit + 1 {
            self.found.pop_last();
        }
    }

    /// What is shown, and where the next page begins if there is one.
    pub(super) fn finish(mut self) -> (Vec<T>, Option<String>) {
        let mut next = None;
        if self.found.len() > self.limit {
            self.found.pop_last();
            next = self.found.last_key_value().map(|(key, _)| key.clone());
        }
        (self.found.into_values().collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_show_everything_once_in_order() {
        let keys: Vec<String> = (0..25).map(|n| format!("{:02}", n * 7 % 25)).collect();
        for limit in 1..30 {
            let (mut after, mut seen) = (None, Vec::new());
            loop {
                let mut page = Page::new(&after, Some(limit)).unwrap();
                keys.iter().for_each(|key| page.offer(key, || key.clone()));
                let (shown, next) = page.finish();
                assert!(shown.len() <= limit);
                seen.extend(shown);
                after = next;
                if after.is_none() {
                    break;
                }
            }
            let mut all = keys.clone();
            all.sort();
            assert_eq!(seen, all, "{limit}");
        }
    }
}
