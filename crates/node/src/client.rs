//! Asking a node of another process on this machine.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use crate::failure::refused;

/// A server, by its address.
pub struct Server {
    host: String,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    /// The server of an address like `http://127.0.0.1:4600`.
    ///
    /// # Errors
    /// The address is of another form.
    pub fn at(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://");
        let host = rest
            .map(|rest| rest.trim_end_matches('/'))
            .unwrap_or_default();
        if host.is_empty() || host.contains(['/', '@', ' ', '\r', '\n']) {
            bail!("{url:?} is no address of a server; give one like http://127.0.0.1:4600");
        }
        let host = if host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        Ok(Self { host })
    }

    /// What a path answers.
    ///
    /// # Errors
    /// Nobody answers, or the answer is a failure.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, &[], "")
    }

    /// What a path answers to a body of JSON, sent by `by` unless that is empty.
    ///
    /// # Errors
    /// As for [`Server::get`]; [`Refused`](crate::failure::Refused) if what is asked for cannot be
    /// done as things stand; `by` is no plain text.
    pub fn post(&self, path: &str, by: &str, body: &Value) -> anyhow::Result<Value> {
        if !by
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        {
            bail!("{by:?} cannot be sent as a name: write it in plain letters");
        }
        let mut headers = vec![("Content-Type", "application/json")];
        if !by.is_empty() {
            headers.push(("X-Principal", by));
        }
        self.ask("POST", path, &headers, &body.to_string())
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> anyhow::Result<Value> {
        let answer = self
            .exchange(method, path, headers, body)
            .with_context(|| {
                let host = &self.host;
                format!("no answer from http://{host}; is a server running there?")
            })?;
        let split = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let split = split.context("the answer is not one of an HTTP server")?;
        let head = String::from_utf8_lossy(&answer[..split]);
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(&answer[split + 4..])
            .map_err(|error| anyhow!("the answer (status {status}) is no JSON: {error}"))?;
        if status == "200" {
            return Ok(body);
        }
        let message = body["error"]["message"]
            .as_str()
            .unwrap_or("it does not say why");
        if status == "409" {
            return Err(refused(message));
        }
        bail!("{message} (status {status})")
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let host = &self.host;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n"
        );
        if method != "GET" {
            let _ = write!(request, "Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        request.push_str("\r\n");
        request.push_str(body);
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Text as part of a path or a query.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_urls() {
        assert_eq!(escaped("a-1_é /?&%"), "a-1_%C3%A9%20%2F%3F%26%25");
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(
            Server::at("http://127.0.0.1:4600/").unwrap().host,
            "127.0.0.1:4600"
        );
        assert_eq!(Server::at("http://[::1]:9").unwrap().host, "[::1]:9");
        for bad in ["127.0.0.1:4600", "https://a", "http://", "http://a/b"] {
            assert!(Server::at(bad).is_err(), "{bad}");
        }
    }
}
