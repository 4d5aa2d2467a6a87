//! TLS towards a Redis.

use crate::config::TlsConfig;
use std::{io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem},
    },
};

/// What TLS was configured with cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    #[error("the certificates or the key for TLS cannot be used: {0}")]
    Pem(#[from] pem::Error),
    #[error("the certificates or the key for TLS cannot be used: {0}")]
    Rustls(#[from] tokio_rustls::rustls::Error),
    #[error("the system trusts no certificates that decant can find; name those that signed Redis's with ca_file")]
    NoRoots,
}

/// Whom to trust, and who decant is.
pub(super) struct Tls {
    connector: TlsConnector,
    name: Option<String>,
}

impl Tls {
    pub(super) fn new(told: &TlsConfig) -> Result<Tls, TlsFault> {
        let mut roots = RootCertStore::empty();
        match &told.ca {
            Some(pem) => {
                for certificate in certificates(pem)? {
                    roots.add(certificate)?;
                }
            }
            // Among a system's there can be some that rustls does not take; what they signed is then not trusted.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            return Err(TlsFault::NoRoots);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &told.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = <PrivateKeyDer<'static> as pem::PemObject>::from_pem_slice(key.expose())?;
                config.with_client_auth_cert(certificates(certificate)?, key)?
            }
        };
        Ok(Tls { connector: Arc::new(config).into(), name: told.name.clone() })
    }

    /// `host`: whom the certificate must name, unless the config says otherwise.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = self.name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    <CertificateDer<'static> as pem::PemObject>::pem_slice_iter(pem).collect()
}
