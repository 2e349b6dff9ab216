//! Whether a certificate is for a host, by libpq's rules (`fe-secure-common.c`,
//! `pgtls_verify_peer_name_matches_certificate_guts`): alternative names of the host's own kind
//! decide alone; only without them does the common name count.

use std::net::IpAddr;

use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// How many names an error repeats at most.
const MAX_PRESENTED: usize = 10;

/// The names of a certificate that libpq looks at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    common_name: Option<String>,
}

impl Names {
    pub(super) fn of(certificate: &Certificate) -> Self {
        let mut names = Self::default();
        let tbs = &certificate.tbs_certificate;
        if let Ok(Some((_, SubjectAltName(all)))) = tbs.get::<SubjectAltName>() {
            for name in &all {
                match name {
                    GeneralName::DnsName(name) => names.dns.push(name.as_str().to_owned()),
                    GeneralName::IpAddress(bytes) => names.addresses.extend(ip(bytes.as_bytes())),
                    _ => {}
                }
            }
        }
        names.common_name = tbs
            .subject
            .0
            .iter()
            .flat_map(|relative| relative.0.iter())
            .find(|attribute| attribute.oid == COMMON_NAME)
            .and_then(|attribute| std::str::from_utf8(attribute.value.value()).ok())
            // A zero byte would let "good.org\0.evil.org" pass for the first.
            .filter(|name| !name.contains('\0'))
            .map(str::to_owned);
        names
    }

    /// Whether one of the names is for `host`, a DNS name or an address.
    pub(super) fn fit(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let by_common_name = || self.common_name.as_deref().is_some_and(|name| fits(name, host));
        match host.parse::<IpAddr>() {
            Ok(address) => {
                self.addresses.contains(&address)
                    // Certificates from before addresses were common carry them as DNS names.
                    || self.dns.iter().any(|name| name == host)
                    || (self.addresses.is_empty() && by_common_name())
            }
            Err(_) if self.dns.is_empty() => by_common_name(),
            Err(_) => self.dns.iter().any(|name| fits(name, host)),
        }
    }

    /// For the message: what the certificate is for.
    pub(super) fn presented(&self) -> Vec<String> {
        let mut all: Vec<String> = self.dns.clone();
        all.extend(self.addresses.iter().map(ToString::to_string));
        if all.is_empty() {
            all.extend(self.common_name.clone());
        }
        all.truncate(MAX_PRESENTED);
        all
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Equal without regard to case; `*.` stands for exactly one label at the front.
fn fits(pattern: &str, host: &str) -> bool {
    if pattern.contains('\0') {
        return false;
    }
    if let Some(rest) = pattern.strip_prefix("*.")
        && !rest.is_empty()
    {
        return host
            .split_once('.')
            .is_some_and(|(label, domain)| !label.is_empty() && domain.eq_ignore_ascii_case(rest));
    }
    pattern.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(dns: &[&str], addresses: &[&str], common_name: Option<&str>) -> Names {
        Names {
            dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            common_name: common_name.map(str::to_owned),
        }
    }

    #[test]
    fn alternative_names_shut_the_common_name_out() {
        let certificate = names(&["db.example.org"], &[], Some("other.example.org"));
        assert!(certificate.fit("DB.example.org"));
        assert!(!certificate.fit("other.example.org"));
        let old = names(&[], &[], Some("other.example.org"));
        assert!(old.fit("other.example.org"));
        // An address among the names says nothing about DNS names, and the reverse.
        assert!(names(&[], &["10.0.0.1"], Some("db")).fit("db"));
        assert!(names(&["db"], &[], Some("10.0.0.1")).fit("10.0.0.1"));
        assert!(!names(&[], &["10.0.0.1"], Some("10.0.0.2")).fit("10.0.0.2"));
        assert!(names(&[], &["::1"], None).fit("0:0:0:0:0:0:0:1"));
    }

    #[test]
    fn a_star_stands_for_one_label() {
        let certificate = names(&["*.example.org"], &[], None);
        assert!(certificate.fit("db.example.org"));
        assert!(!certificate.fit("a.db.example.org"));
        assert!(!certificate.fit("example.org"));
        assert!(!certificate.fit(".example.org"));
        assert!(!names(&["*."], &[], None).fit("x"));
        assert!(!names(&["d*.example.org"], &[], None).fit("db.example.org"));
    }
}
