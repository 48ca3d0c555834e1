//! What went wrong in a TLS handshake, in words that tell what to do.
//!
//! The texts hold the same words at each try: those of the TLS library count the seconds since a certificate expired,
//! and they repeat names that the other side has chosen.

use std::error::Error;
use std::io;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

/// Why no handshake with `peer` came about, when `error` comes of one.
pub(super) fn problem(error: &(dyn Error + 'static), peer: &str) -> Option<String> {
    Some(match find(error)? {
        rustls::Error::InvalidCertificate(error) => certificate_problem(error, peer),
        rustls::Error::NoCertificatesPresented => format!("{peer} shows no certificate"),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{peer} does not speak TLS; is this a port for plain http?")
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => format!("{peer} offers no version of TLS from 1.2 on"),
        other => format!("the TLS handshake with {peer} failed: {other}"),
    })
}

fn certificate_problem(error: &CertificateError, peer: &str) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            format!("the certificate of {peer} is not trusted: unknown issuer; give its CA with --ca-file")
        }
        CertificateError::BadSignature => format!(
            "the certificate of {peer} is not trusted: the CA that it names has not signed it; give its CA with --ca-file"
        ),
        CertificateError::Expired => expired(peer, ""),
        CertificateError::ExpiredContext { not_after, .. } => expired(peer, &at(" at ", *not_after)),
        CertificateError::NotValidYet => not_yet(peer, ""),
        CertificateError::NotValidYetContext { not_before, .. } => not_yet(peer, &at(" before ", *not_before)),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate of {peer} is for another name; check the endpoint")
        }
        // Printed whole, it would show the types around the reason.
        CertificateError::Other(reason) => format!("the certificate of {peer} is not accepted: {}", reason.0),
        other => format!("the certificate of {peer} is not accepted: {other}"),
    }
}

/// It may be any of the certificates that a server shows, hence "a".
fn expired(peer: &str, at: &str) -> String {
    format!("a certificate of {peer} expired{at}; renew it, or set this machine's clock")
}

fn not_yet(peer: &str, before: &str) -> String {
    format!("a certificate of {peer} is not valid yet{before}; replace it, or set this machine's clock")
}

fn at(lead: &str, time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(|time| format!("{lead}{time}")).unwrap_or_default()
}

/// The TLS library's error among the causes of `error`.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an I/O error is that of the error in it, so the latter has to be taken out.
        let wrapped = error.downcast_ref().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
