//! The two ends of a connection by hand, for peers that keep to nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use everfold_cluster::transport::Frame;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// The files of an identity.
pub(crate) struct Files {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Files {
    pub(crate) fn of(folder: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(folder.join("authority.pem")).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let chain = CertificateDer::pem_file_iter(folder.join("certificate.pem")).unwrap();
        Self {
            roots,
            chain: chain.map(Result::unwrap).collect(),
            key: PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap(),
        }
    }

    /// A connection to a node of this cluster, before any hello. `shown`: with the certificate.
    pub(crate) async fn connect(
        &self,
        address: &str,
        cluster: &str,
        shown: bool,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = if shown {
            let (chain, key) = (self.chain.clone(), self.key.clone_key());
            config.with_client_auth_cert(chain, key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"everfold/1".to_vec()];
        let tcp = TcpStream::connect(address).await?;
        let name = format!("nodes.{cluster}.everfold").try_into().unwrap();
        let tls = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await?;
        Ok(tls.into())
    }

    /// A listener, and what makes TLS of its connections.
    pub(crate) async fn listen(&self) -> (TcpListener, SocketAddr, TlsAcceptor) {
        let provider = Arc::new(default_provider());
        let roots = Arc::new(self.roots.clone());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![b"everfold/1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address, TlsAcceptor::from(Arc::new(config)))
    }
}

/// Our hello.
pub(crate) const HELLO: Frame = Frame::Hello {
    lowest: 1,
    highest: 1,
};

/// Sends a frame.
pub(crate) async fn send(stream: &mut TlsStream<TcpStream>, frame: &Frame) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    frame.write(&mut bytes);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// The next frame.
pub(crate) async fn receive(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Frame> {
    let length = stream.read_u32().await?;
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(Frame::read(bytes.into()).unwrap())
}
