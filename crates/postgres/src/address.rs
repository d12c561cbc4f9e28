//! Where a log is: `postgres://user:password@host:port/database?schema=orders`, or without the password and
//! with `password_file=PATH`.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use crate::error::OpenError;

/// The schema unless the address names another one.
const SCHEMA: &str = "everfold";

/// How far the server's certificate is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Encrypted if the server offers it, and not verified: for servers with a certificate that
    /// nobody signed. It protects from those who only listen.
    Anyone,
    /// Signed by an authority of the system, or of this file.
    Signed(Option<String>),
}

/// An address, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) trust: Trust,
    pub(crate) schema: String,
    pub(crate) partitions: Option<u16>,
    /// To show people.
    pub(crate) shown: String,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, OpenError> {
        let shown = without_password(text);
        let wrong = |reason: String| OpenError::Address {
            address: shown.clone(),
            reason,
        };
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut schema, mut partitions, mut root) = (SCHEMA.to_owned(), None, None);
        let (mut verified, mut password) = (false, None);
        let mut rest: Vec<String> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(raw)
                .decode_utf8()
                .map_err(|_| wrong(format!("{name} is no text")))?
                .into_owned();
            match (name, value.as_str()) {
                ("schema", _) => schema = value,
                ("partitions", _) => {
                    let count = value.parse::<u16>().ok();
                    let count = count.filter(|count| (1..=1024).contains(count));
                    partitions =
                        Some(count.ok_or_else(|| wrong("partitions are 1 to 1024".into()))?);
                }
                ("sslrootcert", _) => root = Some(value),
                // What stands on a command line is read by everybody on the machine.
                ("password_file", _) => {
                    let read = std::fs::read_to_string(&value);
                    let read = read.map_err(|error| {
                        wrong(format!(
                            "the password's file {value} cannot be read: {error}"
                        ))
                    })?;
                    password = Some(read.lines().next().unwrap_or_default().to_owned());
                }
                ("sslmode", "verify-ca" | "verify-full" | "require") => {
                    verified = true;
                    rest.push("sslmode=require".into());
                }
                ("sslmode", "allow") => rest.push("sslmode=prefer".into()),
                _ => rest.push(pair.to_owned()),
            }
        }
        check_schema(&schema).map_err(&wrong)?;
        let driver = match rest.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", rest.join("&")),
        };
        let mut config: Config = driver.parse().map_err(|error: tokio_postgres::Error| {
            // The driver's message may repeat what it was given, but never a password.
            wrong(
                std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), |source| source.to_string()),
            )
        })?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if let Some(password) = password {
            config.password(password);
        }
        let trust = match verified || root.is_some() {
            true => Trust::Signed(root),
            false => Trust::Anyone,
        };
        if matches!(trust, Trust::Signed(_)) {
            config.ssl_mode(SslMode::Require);
        }
        Ok(Self {
            config,
            trust,
            schema,
            partitions,
            shown,
        })
    }

    /// The name of the log: that of its schema, `main` for the usual one.
    pub(crate) fn log(&self) -> &str {
        match self.schema.as_str() {
            SCHEMA => "main",
            other => other,
        }
    }
}

/// Only names that need no quotes, so that people can type them.
fn check_schema(schema: &str) -> Result<(), String> {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    let later = |c: char| first(c) || c.is_ascii_digit();
    let fits =
        schema.chars().next().is_some_and(first) && schema.chars().all(later) && schema.len() <= 63;
    if !fits {
        return Err(format!(
            "{schema:?} is no name for a schema: small letters, digits and _, a letter first"
        ));
    }
    if schema.starts_with("pg_") || ["public", "information_schema"].contains(&schema) {
        return Err(format!(
            "the schema {schema:?} is not for a log; name one of its own"
        ));
    }
    Ok(())
}

/// An address without its password, to show people.
pub fn without_password(address: &str) -> String {
    // As the driver reads it: a name and a password end at an @, even behind a ?.
    let credentials = address.find('@').unwrap_or(0);
    if address[..credentials].contains("password=") {
        return "(an address with an @ in its password: write %40)".to_owned();
    }
    let (base, query) = match address[credentials..].find('?') {
        Some(at) => {
            let (base, query) = address.split_at(credentials + at);
            (base, Some(&query[1..]))
        }
        None => (address, None),
    };
    let mut shown = match base.split_once("://") {
        Some((scheme, rest)) => {
            // A password may hold an @ or a / that nobody has escaped.
            let shown = match rest.rsplit_once('@') {
                Some((user, place)) => {
                    let user = user.split_once(':').map_or(user, |(user, _)| user);
                    format!("{user}@{place}")
                }
                None => rest.to_owned(),
            };
            format!("{scheme}://{shown}")
        }
        None => "(an address without ://)".to_owned(),
    };
    // The end of a password with both, if it holds an @.
    let harmless = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        name != "password" && !pair.contains('@')
    };
    let kept: Vec<&str> = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(harmless)
        .collect();
    if !kept.is_empty() {
        shown.push('?');
        shown.push_str(&kept.join("&"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_parameters_do_not_reach_the_driver() {
        let address = Address::parse(
            "postgres://ann:s%40cret@db.example:6000/shop?schema=orders&partitions=32&sslmode=verify-full",
        )
        .unwrap();
        assert_eq!(address.schema, "orders");
        assert_eq!(address.log(), "orders");
        assert_eq!(address.partitions, Some(32));
        assert_eq!(address.trust, Trust::Signed(None));
        assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(address.config.get_password(), Some(&b"s@cret"[..]));
        assert_eq!(address.config.get_ports(), [6000]);
    }

    #[test]
    fn a_password_may_be_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "s@cret\n").unwrap();
        let text = format!("postgres://ann@h/d?password_file={}", file.display());
        let address = Address::parse(&text).unwrap();
        assert_eq!(address.config.get_password(), Some(&b"s@cret"[..]));
        std::fs::remove_file(file).unwrap();
        let error = Address::parse(&text).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        for (address, reason) in [
            ("postgres://h/d?schema=Orders", "small letters"),
            ("postgres://h/d?schema=pg_catalog", "not for a log"),
            ("postgres://h/d?partitions=0", "1 to 1024"),
            ("postgres://h/d?partitions=many", "1 to 1024"),
            ("postgres://h/d?unknown=1", "unknown"),
        ] {
            let error = Address::parse(address).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (address, shown) in [
            ("postgres://a:b@h/d?x=1", "postgres://a@h/d?x=1"),
            ("postgres://a:b@c/d@h/d", "postgres://a@h/d"),
            ("postgres://a@h/d?password=b&x=1", "postgres://a@h/d?x=1"),
            ("postgres://a@h/d?pass%77ord=b&x=1", "postgres://a@h/d?x=1"),
            (
                "postgres://h/d?user=a&password=b@c",
                "(an address with an @ in its password: write %40)",
            ),
            ("postgres://a:b?c@h/d?x=1", "postgres://a@h/d?x=1"),
            ("postgres://a:b@c?d@h/d", "postgres://a@c"),
            ("host=h password=b", "(an address without ://)"),
        ] {
            assert_eq!(without_password(address), shown);
        }
        let error = Address::parse("postgres://a:secret@h/d?schema=X").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
