//! Who this process is to others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use everfold_engine::{Text, Timestamp};
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use webpki::{EndEntityCert, KeyUsage};

use super::AuthorityError;
use super::files::{self, AUTHORITY, CERTIFICATE, KEY};
use super::name::{Kind, PeerName, any_node_of};

/// What both sides name in the handshake, so that nothing else is mistaken for it.
pub(crate) const PROTOCOL: &[u8] = b"everfold/1";

/// A certificate, its key, and the authority that others must have theirs from. Clones share it.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    name: PeerName,
    cluster: Text,
    path: PathBuf,
    calls: Arc<ClientConfig>,
    target: ServerName<'static>,
    listens: Option<Arc<ServerConfig>>,
}

impl Identity {
    /// The identity in a folder as `everfold init` makes it.
    ///
    /// # Errors
    /// As for [`Identity::from_files`].
    pub fn from_folder(folder: &Path) -> Result<Self, AuthorityError> {
        let [authority, certificate, key] =
            [AUTHORITY, CERTIFICATE, KEY].map(|name| folder.join(name));
        Self::from_files(&authority, &certificate, &key)
    }

    /// The identity in three files: what the authority's certificate is, or several while one replaces
    /// another (the first gives the fingerprint); our own certificate, followed by those between it
    /// and the authority, if any; our private key.
    ///
    /// # Errors
    /// A file is missing or holds something else, or the three do not fit together, or their time is
    /// over. Whatever would make every peer refuse us is found here already.
    pub fn from_files(
        authority: &Path,
        certificate: &Path,
        key: &Path,
    ) -> Result<Self, AuthorityError> {
        let authorities = files::certificates(authority)?;
        let chain = files::certificates(certificate)?;
        let (private, _) = files::key(key)?;
        let name = PeerName::of(&chain[0]).ok_or_else(|| AuthorityError::Nameless {
            path: certificate.into(),
        })?;
        let mut roots = RootCertStore::empty();
        for root in &authorities {
            let added = roots.add(root.clone());
            added.map_err(|error| unusable(authority, &error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let paths = (authority, certificate);
        check_chain(&chain, &roots.roots, &provider, name.kind, paths)?;
        let calls = client_config(&provider, &roots, &chain, &private)
            .map_err(|error| key_error(&error, certificate, key))?;
        let listens = match name.kind {
            Kind::Client => None,
            Kind::Node => {
                let config = server_config(&provider, roots, chain, private);
                Some(config.map_err(|error| key_error(&error, certificate, key))?)
            }
        };
        let target = any_node_of(&name.cluster);
        let target = ServerName::try_from(target).map_err(|error| unusable(certificate, &error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                cluster: cluster_id(&name.cluster, &authorities[0]),
                name,
                path: certificate.into(),
                calls,
                target,
                listens,
            }),
        })
    }

    /// Who we are.
    pub fn name(&self) -> &PeerName {
        &self.inner.name
    }

    /// The cluster's name, and the fingerprint of its authority: two clusters that happen to have the
    /// same name differ in it. It is the beginning of the SHA-256 that
    /// `openssl x509 -fingerprint -sha256` prints.
    pub fn cluster(&self) -> &Text {
        &self.inner.cluster
    }

    pub(crate) fn calls(&self) -> Arc<ClientConfig> {
        self.inner.calls.clone()
    }

    pub(crate) fn target(&self) -> ServerName<'static> {
        self.inner.target.clone()
    }

    pub(crate) fn listens(&self) -> Result<Arc<ServerConfig>, AuthorityError> {
        self.inner
            .listens
            .clone()
            .ok_or_else(|| AuthorityError::Client {
                path: self.inner.path.clone(),
                name: self.inner.name.name.clone(),
            })
    }
}

/// Name and fingerprint.
pub(super) fn cluster_id(name: &str, authority: &CertificateDer<'_>) -> Text {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    let print = suite.map(|suite| suite.common.hash_provider.hash(authority));
    let print = print.as_ref().map_or(&[][..], |hash| &hash.as_ref()[..8]);
    format!("{name}@{}", data_encoding::HEXLOWER.encode(print)).into()
}

/// What our peers will check, before they do.
fn check_chain(
    chain: &[CertificateDer<'_>],
    roots: &[TrustAnchor<'_>],
    provider: &CryptoProvider,
    kind: Kind,
    (authority, certificate): (&Path, &Path),
) -> Result<(), AuthorityError> {
    let own = EndEntityCert::try_from(&chain[0]).map_err(|error| unusable(certificate, &error))?;
    let mut usages = vec![KeyUsage::client_auth()];
    if kind == Kind::Node {
        usages.push(KeyUsage::server_auth());
    }
    for usage in usages {
        let algorithms = provider.signature_verification_algorithms.all;
        let now = UnixTime::now();
        let checked = own.verify_for_usage(algorithms, roots, &chain[1..], now, usage, None, None);
        let path = certificate.into();
        checked.map_err(|error| match error {
            webpki::Error::CertExpired { not_after, .. } => AuthorityError::Expired {
                path,
                until: timestamp(not_after),
                now: timestamp(now),
            },
            webpki::Error::CertNotValidYet { not_before, .. } => AuthorityError::NotYetValid {
                path,
                from: timestamp(not_before),
                now: timestamp(now),
            },
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                AuthorityError::OtherAuthority {
                    certificate: path,
                    authority: authority.into(),
                }
            }
            other => unusable(certificate, &other),
        })?;
    }
    Ok(())
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: &RootCertStore,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
    let verifier = verifier
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain.to_vec(), key.clone_key())?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Connections are few and last; every one is to be checked as it is now.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn key_error(error: &rustls::Error, certificate: &Path, key: &Path) -> AuthorityError {
    match error {
        rustls::Error::InconsistentKeys(_) => AuthorityError::ForeignKey {
            key: key.into(),
            certificate: certificate.into(),
        },
        other => unusable(certificate, other),
    }
}

fn unusable(path: &Path, error: &impl ToString) -> AuthorityError {
    AuthorityError::Unusable {
        path: path.into(),
        reason: error.to_string().into(),
    }
}

fn timestamp(time: UnixTime) -> Timestamp {
    Timestamp::from_millis(time.as_secs() as i64 * 1000)
}
