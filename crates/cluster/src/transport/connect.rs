//! Making a connection, and telling why there is none.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use everfold_engine::Text;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::{CallError, Side};
use super::frame::{Frame, VERSIONS, agreed};
use super::wire::{Wire, told};
use crate::authority::{Identity, Kind, PeerName};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection on which calls may be sent.
pub(super) async fn connect(address: &Text, identity: &Identity) -> Result<Wire, CallError> {
    let made = timeout(PATIENCE, steps(address, identity)).await;
    made.unwrap_or_else(|_| {
        let reason = format!("nobody answered within {PATIENCE:?}");
        Err(unreachable(address, reason))
    })
}

async fn steps(address: &Text, identity: &Identity) -> Result<Wire, CallError> {
    let failed = |error: io::Error| refused(address, identity, &error);
    let tcp = TcpStream::connect(&**address).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let connector = TlsConnector::from(identity.calls());
    let tls = connector.connect(identity.target(), tcp).await;
    let tls = tls.map_err(failed)?;
    let (_, session) = tls.get_ref();
    if session.alpn_protocol() != Some(crate::authority::PROTOCOL) {
        return Err(unreachable(address, "it speaks another protocol"));
    }
    let certificates = session.peer_certificates().unwrap_or_default();
    let name = certificates.first().and_then(PeerName::of);
    if name.is_none_or(|name| name.kind != Kind::Node) {
        return Err(CallError::Untrusted {
            address: address.clone(),
            side: Side::Here,
            reason: "its certificate does not name a node".into(),
        });
    }
    let mut wire = Wire::new(tls.into());
    // The node speaks first: whether it takes our certificate is known only when it does, and what
    // we had sent to a node that does not could keep its reason from reaching us.
    let hello = poll_fn(|cx| wire.poll_frame(cx)).await.map_err(failed)?;
    match hello {
        Frame::Hello { lowest, highest } if agreed((lowest, highest)).is_some() => {}
        Frame::Hello { lowest, highest } => {
            return Err(CallError::OtherVersion {
                address: address.clone(),
                ours: VERSIONS,
                theirs: (lowest, highest),
            });
        }
        Frame::OtherCluster { cluster } => {
            return Err(other_cluster(address, identity, cluster.into()));
        }
        Frame::Full => {
            return Err(unreachable(
                address,
                "it has as many connections as it takes",
            ));
        }
        _ => return Err(unreachable(address, "it does not begin with a hello")),
    }
    wire.put(&Frame::hello());
    Ok(wire)
}

pub(super) fn unreachable(address: &Text, reason: impl Into<Text>) -> CallError {
    CallError::Unreachable {
        address: address.clone(),
        reason: reason.into(),
    }
}

fn other_cluster(address: &Text, identity: &Identity, theirs: Text) -> CallError {
    CallError::OtherCluster {
        address: address.clone(),
        ours: identity.name().cluster.clone(),
        theirs,
    }
}

/// What a failure before the first call means.
fn refused(address: &Text, identity: &Identity, error: &io::Error) -> CallError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let (side, reason) = match inner {
        Some(TlsError::InvalidCertificate(found)) => {
            if let CertificateError::NotValidForNameContext { presented, .. } = found
                && let Some(cluster) = presented.iter().find_map(|name| cluster_in(name))
                && *cluster != *identity.name().cluster
            {
                return other_cluster(address, identity, cluster.into());
            }
            (Side::Here, here(found, identity))
        }
        Some(TlsError::AlertReceived(alert)) => match there(*alert) {
            Some(reason) => (Side::There, reason.to_owned()),
            None => return unreachable(address, error.to_string()),
        },
        Some(_) => {
            let reason = format!("it does not speak TLS as nodes do: {error}");
            return unreachable(address, reason);
        }
        None => return unreachable(address, told(error)),
    };
    CallError::Untrusted {
        address: address.clone(),
        side,
        reason: reason.into(),
    }
}

/// The cluster in a name of a certificate, as an error shows it.
fn cluster_in(shown: &str) -> Option<&str> {
    let before = shown
        .split(".everfold")
        .next()
        .filter(|before| *before != shown)?;
    before.rsplit('.').next()
}

fn here(found: &CertificateError, identity: &Identity) -> String {
    match found {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "its certificate was not issued by the authority of {}",
            identity.cluster()
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired, or the clock here is wrong ({found})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet, or the clock here is wrong ({found})")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it shows a certificate for clients, and only nodes may be called".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "its certificate names no node of {}",
                identity.name().cluster
            )
        }
        other => other.to_string(),
    }
}

/// What the peer says of our certificate, if it is about that.
fn there(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "our certificate was issued by another authority than its own"
        }
        AlertDescription::CertificateExpired => {
            "our certificate is not valid at this time by its clock"
        }
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it asks for a certificate and got none"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it does not accept our certificate",
        _ => return None,
    })
}
