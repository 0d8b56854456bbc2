//! Certificates that the user gave: trusted as they are.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

/// Trusts what the given certificates vouch for, and a server that shows one of them itself, as curl does:
/// `openssl req -x509` makes a certificate of an authority, which is no server's by the strict rules, and older
/// guides put the server's name where nobody looks any more.
#[derive(Debug)]
pub(crate) struct GivenVerifier {
    usual: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl GivenVerifier {
    pub(crate) fn new(usual: Arc<WebPkiServerVerifier>, given: Vec<CertificateDer<'static>>) -> Self {
        Self { usual, given }
    }
}

/// Whether a certificate was refused for nothing but its shape. Its time was right then: that is looked at before.
fn is_an_authoritys(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else { return false };
    matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Whether a certificate has no names where they belong, so that its subject may have one.
fn has_no_names(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })
        if presented.is_empty())
}

impl ServerCertVerifier for GivenVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usual = self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(refusal) = usual else { return usual };
        if !self.given.contains(end_entity) {
            return Err(refusal);
        }
        let named = if is_an_authoritys(&refusal) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
        } else {
            Err(refusal)
        };
        match named {
            Err(refusal) if !(has_no_names(&refusal) && is_subject(end_entity, server_name)) => Err(refusal),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether the subject's common name is this name.
fn is_subject(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let Ok(anchor) = webpki::anchor_from_trusted_cert(certificate) else { return false };
    common_name(&anchor.subject).is_some_and(|subject| subject.eq_ignore_ascii_case(name.to_str().as_bytes()))
}

/// The last common name (2.5.4.3) in a subject: an identifier, and then a short text of one of the usual types.
fn common_name(subject: &[u8]) -> Option<&[u8]> {
    const COMMON_NAME: &[u8] = &[6, 3, 0x55, 4, 3];
    let at = subject.windows(COMMON_NAME.len()).rposition(|window| window == COMMON_NAME)?;
    let (head, rest) = subject.get(at + COMMON_NAME.len()..)?.split_first_chunk::<2>()?;
    let [kind, length] = *head;
    // UTF8String, PrintableString, IA5String.
    let is_text = matches!(kind, 0x0c | 0x13 | 0x16) && length < 0x80;
    if is_text { rest.get(..usize::from(length)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_found_and_nothing_is_made_up() {
        let subject =
            b"\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02DE\x31\x12\x30\x10\x06\x03\x55\x04\x03\x0c\x09localhost";
        assert_eq!(common_name(subject), Some(&b"localhost"[..]));
        for cut in 0..subject.len() {
            assert_eq!(common_name(&subject[..cut]), None, "{cut}");
        }
        assert_eq!(common_name(b"\x06\x03\x55\x04\x03\x1e\x02ab"), None);
        assert_eq!(common_name(b"\x06\x03\x55\x04\x03\x0c\x81\x02ab"), None);
    }
}
