//! TLS for a destination: whom it trusts, and the handshake. STARTTLS and implicit TLS use the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use connector::{Failure, Reply, Said};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom a destination trusts; read when the first connection needs it.
#[derive(Default)]
pub(super) struct Trust {
    config: OnceCell<Arc<ClientConfig>>,
}

impl Trust {
    /// Agrees on TLS with a server, whose certificate must carry `host`. `ca` is a PEM file with more roots.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
        ca: Option<PathBuf>,
    ) -> Result<TlsStream<TcpStream>, Reply> {
        let config =
            self.config.get_or_try_init(|| load(ca)).await.map_err(|text| failed(Failure::Tls, &text))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            failed(Failure::Tls, &format!("no certificate can carry the name of the host: {error}"))
        })?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(|error| {
            // What rustls itself objects to will be objectionable tomorrow; a broken line will not.
            let of_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            let kind = if of_tls { Failure::Tls } else { super::smtp::kind_of(&error) };
            let in_the_clear = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .is_some_and(|error| {
                    matches!(error, rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType))
                });
            let hint = if in_the_clear {
                "; the server speaks in the clear here, so that `tls: starttls` may be right"
            } else {
                ""
            };
            failed(kind, &format!("TLS with {host} failed: {error}{hint}"))
        })
    }
}

fn failed(kind: Failure, text: &str) -> Reply {
    Reply::Failed { handed_over: false, kind, text: Said::of(text) }
}

async fn load(ca: Option<PathBuf>) -> Result<Arc<ClientConfig>, String> {
    let read = tokio::task::spawn_blocking(move || roots(ca.as_deref()));
    let roots = read.await.map_err(|error| format!("cannot read certificates: {error}"))??;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // What cannot be read among the system's is left out: a missing root shows itself in the handshake.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let error = |why: String| format!("cannot read the certificates of `ca`, {}: {why}", path.display());
        let mut found = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|why| error(why.to_string()))? {
            roots
                .add(certificate.map_err(|why| error(why.to_string()))?)
                .map_err(|why| error(why.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(error("there is none in it".to_owned()));
        }
    }
    if roots.is_empty() {
        return Err("this machine trusts no certificate authority; install its CA certificates, or set `ca`"
            .to_owned());
    }
    Ok(roots)
}
