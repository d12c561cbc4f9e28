//! Names that certificates carry.

use std::fmt;

use everfold_engine::Text;
use rustls::pki_types::CertificateDer;

use super::AuthorityError;

/// What somebody may be in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Serves, and calls others.
    Node,
    /// Calls nodes.
    Client,
}

/// Who somebody is, as the certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerName {
    /// Node or client.
    pub kind: Kind,
    /// Unique in the cluster for its kind.
    pub name: Text,
    /// The cluster's name, without the fingerprint of its authority.
    pub cluster: Text,
}

/// The last part of all names, so that none can be one of the internet.
const REALM: &str = "everfold";

impl Kind {
    /// Between name and cluster.
    fn label(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::Client => "clients",
        }
    }
}

impl PeerName {
    /// The name as a certificate carries it.
    pub(super) fn in_certificate(&self) -> String {
        format!(
            "{}.{}.{}.{REALM}",
            self.name,
            self.kind.label(),
            self.cluster
        )
    }

    fn read(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let mut labels = name.split('.');
        let (first, kind, cluster) = (labels.next()?, labels.next()?, labels.next()?);
        if (labels.next(), labels.next()) != (Some(REALM), None) {
            return None;
        }
        let kinds = [Kind::Node, Kind::Client];
        Some(Self {
            kind: kinds.into_iter().find(|known| known.label() == kind)?,
            name: first.into(),
            cluster: cluster.into(),
        })
    }

    /// Whom a certificate is for. Says nothing on whether to trust it.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
        let mut names = parsed.valid_dns_names().filter_map(Self::read);
        names.next().filter(|_| names.next().is_none())
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Node => "node",
            Kind::Client => "client",
        };
        write!(f, "{kind} {} of {}", self.name, self.cluster)
    }
}

/// What every node of a cluster is called beside its own name, so that whoever calls a node by its
/// address asks for nothing more than a node of the cluster.
pub(crate) fn any_node_of(cluster: &str) -> String {
    format!("{}.{cluster}.{REALM}", Kind::Node.label())
}

/// What the authority of a cluster is called in its own certificate.
pub(super) fn authority_of(cluster: &str) -> String {
    format!("authority.{cluster}.{REALM}")
}

/// The cluster that an authority's certificate names.
pub(super) fn cluster_of_authority(certificate: &CertificateDer<'_>) -> Option<Text> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    parsed.valid_dns_names().find_map(|name| {
        let rest = name.strip_prefix("authority.")?;
        let cluster = rest.strip_suffix(REALM)?.strip_suffix('.')?;
        check_name(cluster).ok()
    })
}

/// A host name or an IP address, as a certificate may carry it.
///
/// # Errors
/// [`AuthorityError::Address`] says what is wrong with it.
pub fn check_address(address: &str) -> Result<Text, AuthorityError> {
    let fits = rustls::pki_types::ServerName::try_from(address);
    fits.map(|_| address.into())
        .map_err(|_| AuthorityError::Address(address.into()))
}

/// A name that fits into a certificate.
///
/// # Errors
/// [`AuthorityError::Name`] says what does.
pub fn check_name(name: &str) -> Result<Text, AuthorityError> {
    let bytes = name.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain);
    fits.then(|| name.into())
        .ok_or_else(|| AuthorityError::Name(name.into()))
}
