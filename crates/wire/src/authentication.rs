//! Proving who one is, and seeing the server prove it too (protocol.sgml, "Start-up"; RFC 5802).
//!
//! The exchange is a state machine without I/O. What each state lets pass is written down once, in
//! [`Authenticator::step`]; anything else is an error. In particular `AuthenticationOk` is only
//! believed after a SCRAM exchange when the server's own signature was verified: otherwise an
//! impostor could wave the client through without knowing the password.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use secrecy::{ExposeSecret as _, SecretString};

use crate::dsn::{ChannelBindingMode, Dsn};
use crate::error::{AuthenticationMethod, WireError};
use crate::message::Cursor;

/// Codes of the `Authentication…` messages.
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const KERBEROS: u32 = 2;
    pub(super) const CLEARTEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const GSS: u32 = 7;
    pub(super) const GSS_CONTINUE: u32 = 8;
    pub(super) const SSPI: u32 = 9;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

enum State {
    /// Nothing was asked yet.
    Start,
    /// A password was sent; the server decides.
    PasswordSent,
    /// The first SCRAM message was sent; the server's challenge is due.
    ScramBegun(ScramSha256),
    /// The proof was sent; the server's signature is due.
    ScramProven(ScramSha256),
    /// The server's signature is right.
    ScramVerified,
    /// Over, or broken: nothing more is let pass.
    Done,
}

/// The client's side of one authentication.
pub(crate) struct Authenticator<'a> {
    dsn: &'a Dsn,
    password: Option<&'a SecretString>,
    /// Whether the transport hides the exchange from others.
    private: bool,
    /// Whether the transport is TLS.
    tls: bool,
    end_point_hash: Option<Vec<u8>>,
    method: AuthenticationMethod,
    state: State,
}

/// What follows from a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An answer may have been appended to the output; more messages will come.
    Continue,
    /// Both sides are satisfied.
    Authenticated,
}

impl<'a> Authenticator<'a> {
    pub(crate) fn new(
        dsn: &'a Dsn,
        password: Option<&'a SecretString>,
        private: bool,
        tls: bool,
        end_point_hash: Option<Vec<u8>>,
    ) -> Self {
        Self {
            dsn,
            password,
            private,
            tls,
            end_point_hash,
            method: AuthenticationMethod::None,
            state: State::Start,
        }
    }

    /// How the server asked, as far as it has.
    pub(crate) fn method(&self) -> AuthenticationMethod {
        self.method
    }

    /// Takes the body of one `Authentication…` message; what is to be answered goes to `out`.
    pub(crate) fn step(&mut self, body: &[u8], out: &mut BytesMut) -> Result<Step, WireError> {
        let mut cursor = Cursor::new(body);
        let code = cursor.u32()?;
        let state = std::mem::replace(&mut self.state, State::Done);
        match (code, state) {
            (code::OK, State::Start) => {
                self.begin(AuthenticationMethod::None)?;
                Ok(Step::Authenticated)
            }
            (code::OK, State::PasswordSent | State::ScramVerified) => Ok(Step::Authenticated),
            (code::OK, State::ScramBegun(_) | State::ScramProven(_)) => {
                Err(WireError::ServerNotVerified {
                    problem: "it ended the SCRAM exchange without its own signature".to_owned(),
                })
            }
            (code::CLEARTEXT, State::Start) => {
                self.begin(AuthenticationMethod::Cleartext)?;
                if !self.private {
                    return Err(WireError::UnsupportedAuth {
                        method: "a cleartext password".to_owned(),
                        problem: "the connection is not encrypted, everybody between could read it"
                            .to_owned(),
                    });
                }
                let password = self.password()?.expose_secret().as_bytes();
                send(frontend::password_message(password, out))?;
                self.state = State::PasswordSent;
                Ok(Step::Continue)
            }
            (code::MD5, State::Start) => {
                self.begin(AuthenticationMethod::Md5)?;
                let salt = cursor
                    .rest()
                    .first_chunk::<4>()
                    .copied()
                    .ok_or_else(|| WireError::protocol("the MD5 salt is too short"))?;
                let password = self.password()?.expose_secret().as_bytes();
                let hash = md5_hash(self.dsn.user.as_bytes(), password, salt);
                send(frontend::password_message(hash.as_bytes(), out))?;
                self.state = State::PasswordSent;
                Ok(Step::Continue)
            }
            (code::SASL, State::Start) => self.begin_scram(cursor, out),
            (code::SASL_CONTINUE, State::ScramBegun(mut scram)) => {
                scram.update(cursor.rest()).map_err(|error| {
                    WireError::protocol(format!("the SCRAM challenge is broken ({error})"))
                })?;
                send(frontend::sasl_response(scram.message(), out))?;
                self.state = State::ScramProven(scram);
                Ok(Step::Continue)
            }
            (code::SASL_FINAL, State::ScramProven(mut scram)) => {
                scram.finish(cursor.rest()).map_err(|error| WireError::ServerNotVerified {
                    problem: format!("its SCRAM signature is wrong ({error})"),
                })?;
                self.state = State::ScramVerified;
                Ok(Step::Continue)
            }
            (code::KERBEROS | code::GSS | code::GSS_CONTINUE | code::SSPI, _) => {
                Err(WireError::UnsupportedAuth {
                    method: "Kerberos (GSSAPI, SSPI)".to_owned(),
                    problem: "it is not supported".to_owned(),
                })
            }
            (code::OK..=code::SASL_FINAL, _) => {
                Err(WireError::protocol(format!("authentication message {code} came out of order")))
            }
            _ => Err(WireError::UnsupportedAuth {
                method: format!("method number {code}"),
                problem: "it is not known".to_owned(),
            }),
        }
    }

    /// Notes the method, and refuses what the connection string does not let pass.
    fn begin(&mut self, method: AuthenticationMethod) -> Result<(), WireError> {
        self.method = method;
        if let Some(required) = &self.dsn.require_auth
            && !required.allows(method)
        {
            return Err(WireError::UnsupportedAuth {
                method: method.name().to_owned(),
                problem: format!("require_auth={required} does not let it pass"),
            });
        }
        if self.dsn.channel_binding == ChannelBindingMode::Require
            && method != AuthenticationMethod::ScramSha256Plus
        {
            return Err(WireError::UnsupportedAuth {
                method: method.name().to_owned(),
                problem: "channel_binding=require asks for SCRAM over TLS with a certificate that \
                          can be bound to"
                    .to_owned(),
            });
        }
        Ok(())
    }

    fn begin_scram(
        &mut self,
        mut cursor: Cursor<'_>,
        out: &mut BytesMut,
    ) -> Result<Step, WireError> {
        let mut plain = false;
        let mut plus = false;
        let mut offered = Vec::new();
        loop {
            let mechanism = cursor.text()?;
            match mechanism.as_str() {
                "" => break,
                SCRAM_SHA_256 => plain = true,
                SCRAM_SHA_256_PLUS => plus = true,
                _ => {}
            }
            offered.push(mechanism);
        }
        let wanted = self.dsn.channel_binding != ChannelBindingMode::Disable;
        let hash = self.end_point_hash.take().filter(|_| wanted && self.tls);
        let (method, mechanism, binding) = match hash {
            Some(hash) if plus => (
                AuthenticationMethod::ScramSha256Plus,
                SCRAM_SHA_256_PLUS,
                ChannelBinding::tls_server_end_point(hash),
            ),
            // "I could have, and you did not offer": the server notices when that is not true,
            // because somebody took the offer out.
            Some(_) if plain => {
                (AuthenticationMethod::ScramSha256, SCRAM_SHA_256, ChannelBinding::unrequested())
            }
            None if plain => {
                (AuthenticationMethod::ScramSha256, SCRAM_SHA_256, ChannelBinding::unsupported())
            }
            _ => {
                return Err(WireError::UnsupportedAuth {
                    method: offered.join(", "),
                    problem: "none of these mechanisms can be used on this connection".to_owned(),
                });
            }
        };
        self.begin(method)?;
        let scram = ScramSha256::new(self.password()?.expose_secret().as_bytes(), binding);
        send(frontend::sasl_initial_response(mechanism, scram.message(), out))?;
        self.state = State::ScramBegun(scram);
        Ok(Step::Continue)
    }

    fn password(&self) -> Result<&'a SecretString, WireError> {
        self.password.filter(|password| !password.expose_secret().is_empty()).ok_or_else(|| {
            WireError::PasswordMissing {
                user: self.dsn.user.clone(),
                method: self.method,
                passfile: self.dsn.passfile.clone(),
            }
        })
    }
}

/// A message that cannot be written has a zero byte where none may be.
fn send(result: std::io::Result<()>) -> Result<(), WireError> {
    result.map_err(|_| WireError::Misuse { what: "a password with a zero byte" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::BufMut as _;
    use data_encoding::BASE64;
    use proptest::prelude::*;
    use ring::{digest, hmac, pbkdf2};

    use super::*;

    fn dsn(text: &str) -> Dsn {
        Dsn::parse(&format!("host=h user=u {text}"), &|_| None).unwrap()
    }

    fn message(code: u32, rest: &[u8]) -> Vec<u8> {
        let mut body = code.to_be_bytes().to_vec();
        body.extend_from_slice(rest);
        body
    }

    fn sasl(mechanisms: &[&str]) -> Vec<u8> {
        let mut body = code::SASL.to_be_bytes().to_vec();
        for name in mechanisms {
            body.put_slice(name.as_bytes());
            body.put_u8(0);
        }
        body.put_u8(0);
        body
    }

    /// The server's side of SCRAM, enough of it to answer honestly or not.
    struct Server {
        key: Vec<u8>,
        salted: [u8; 32],
        transcript: String,
    }

    impl Server {
        /// Reads the client's first message and answers with a challenge.
        fn challenge(password: &str, first: &[u8]) -> (Self, String) {
            let text = String::from_utf8_lossy(first);
            let bare = text.get(text.find("n=,r=").unwrap()..).unwrap().to_owned();
            let salt = b"0123456789abcdef";
            let answer =
                format!("r={}SERVER,s={},i=4096", bare.get(5..).unwrap(), BASE64.encode(salt));
            let mut salted = [0; 32];
            pbkdf2::derive(
                pbkdf2::PBKDF2_HMAC_SHA256,
                4096.try_into().unwrap(),
                salt,
                password.as_bytes(),
                &mut salted,
            );
            let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
            let transcript = format!("{bare},{answer}");
            (Self { key: key.as_ref().to_vec(), salted, transcript }, answer)
        }

        /// Checks the client's proof and signs in turn.
        fn finish(&self, response: &[u8]) -> Option<String> {
            let text = std::str::from_utf8(response).unwrap();
            let (without_proof, proof) = text.split_once(",p=").unwrap();
            let transcript = format!("{},{without_proof}", self.transcript);
            let stored = digest::digest(&digest::SHA256, &self.key);
            let signature = hmac::sign(
                &hmac::Key::new(hmac::HMAC_SHA256, stored.as_ref()),
                transcript.as_bytes(),
            );
            let key: Vec<u8> = BASE64
                .decode(proof.as_bytes())
                .unwrap()
                .iter()
                .zip(signature.as_ref())
                .map(|(a, b)| a ^ b)
                .collect();
            if key != self.key {
                return None;
            }
            let server =
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.salted), b"Server Key");
            let signed = hmac::sign(
                &hmac::Key::new(hmac::HMAC_SHA256, server.as_ref()),
                transcript.as_bytes(),
            );
            Some(format!("v={}", BASE64.encode(signed.as_ref())))
        }
    }

    fn secret() -> SecretString {
        SecretString::from("pencil".to_owned())
    }

    #[test]
    fn scram_end_to_end() {
        let (dsn, password) = (dsn(""), secret());
        let mut auth = Authenticator::new(&dsn, Some(&password), false, false, None);
        let mut out = BytesMut::new();
        assert_eq!(auth.step(&sasl(&[SCRAM_SHA_256]), &mut out).unwrap(), Step::Continue);
        let (server, challenge) = Server::challenge("pencil", &out);
        out.clear();
        auth.step(&message(code::SASL_CONTINUE, challenge.as_bytes()), &mut out).unwrap();
        let signature = server.finish(&out[5..]).unwrap();
        auth.step(&message(code::SASL_FINAL, signature.as_bytes()), &mut out).unwrap();
        assert_eq!(auth.step(&message(code::OK, b""), &mut out).unwrap(), Step::Authenticated);
        assert_eq!(auth.method(), AuthenticationMethod::ScramSha256);
    }

    #[test]
    fn success_without_the_servers_signature_is_an_error() {
        let (dsn, password) = (dsn(""), secret());
        for answered in [false, true] {
            let mut auth = Authenticator::new(&dsn, Some(&password), false, false, None);
            let mut out = BytesMut::new();
            auth.step(&sasl(&[SCRAM_SHA_256]), &mut out).unwrap();
            if answered {
                let (_, challenge) = Server::challenge("pencil", &out);
                auth.step(&message(code::SASL_CONTINUE, challenge.as_bytes()), &mut out).unwrap();
            }
            let error = auth.step(&message(code::OK, b""), &mut out).unwrap_err();
            assert_eq!(error.code(), "server_not_verified");
            // Nothing repairs it afterwards.
            assert!(auth.step(&message(code::OK, b""), &mut out).is_err());
        }
    }

    #[test]
    fn a_wrong_signature_is_an_error() {
        let (dsn, password) = (dsn(""), secret());
        let mut auth = Authenticator::new(&dsn, Some(&password), false, false, None);
        let mut out = BytesMut::new();
        auth.step(&sasl(&[SCRAM_SHA_256]), &mut out).unwrap();
        let (_, challenge) = Server::challenge("pencil", &out);
        auth.step(&message(code::SASL_CONTINUE, challenge.as_bytes()), &mut out).unwrap();
        let wrong = format!("v={}", BASE64.encode(&[0; 32]));
        let error = auth.step(&message(code::SASL_FINAL, wrong.as_bytes()), &mut out).unwrap_err();
        assert_eq!(error.code(), "server_not_verified");
    }

    #[test]
    fn a_foreign_nonce_is_an_error() {
        let (dsn, password) = (dsn(""), secret());
        let mut auth = Authenticator::new(&dsn, Some(&password), false, false, None);
        let mut out = BytesMut::new();
        auth.step(&sasl(&[SCRAM_SHA_256]), &mut out).unwrap();
        let challenge = b"r=someoneelse,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096";
        assert!(auth.step(&message(code::SASL_CONTINUE, challenge), &mut out).is_err());
    }

    #[test]
    fn cleartext_needs_a_private_transport() {
        let (dsn, password) = (dsn(""), secret());
        let mut out = BytesMut::new();
        let mut open = Authenticator::new(&dsn, Some(&password), false, false, None);
        let error = open.step(&message(code::CLEARTEXT, b""), &mut out).unwrap_err();
        assert_eq!(error.code(), "authentication_unsupported");
        assert!(out.is_empty());
        let mut private = Authenticator::new(&dsn, Some(&password), true, true, None);
        private.step(&message(code::CLEARTEXT, b""), &mut out).unwrap();
        assert_eq!(&out[..], b"p\0\0\0\x0bpencil\0");
        assert_eq!(private.step(&message(code::OK, b""), &mut out).unwrap(), Step::Authenticated);
    }

    #[test]
    fn md5_is_salted() {
        let (dsn, password) = (dsn(""), secret());
        let mut out = BytesMut::new();
        let mut auth = Authenticator::new(&dsn, Some(&password), false, false, None);
        auth.step(&message(code::MD5, &[1, 2, 3, 4]), &mut out).unwrap();
        assert_eq!(out.len(), 5 + 3 + 32 + 1);
        let mut short = Authenticator::new(&dsn, Some(&password), false, false, None);
        assert!(short.step(&message(code::MD5, &[1]), &mut out).is_err());
    }

    #[test]
    fn a_missing_password_says_so() {
        let dsn = dsn("");
        let mut out = BytesMut::new();
        let mut auth = Authenticator::new(&dsn, None, false, false, None);
        let error = auth.step(&sasl(&[SCRAM_SHA_256]), &mut out).unwrap_err();
        assert_eq!(error.code(), "password_missing");
        assert!(error.hint().contains(".pgpass"));
    }

    #[test]
    fn channel_binding_is_used_demanded_or_left() {
        let password = secret();
        let hash = || Some(vec![9; 32]);
        let both = [SCRAM_SHA_256_PLUS, SCRAM_SHA_256];
        let first = |text: &str, tls: bool, offered: &[&str]| {
            let dsn = dsn(text);
            let mut out = BytesMut::new();
            let hash = if tls { hash() } else { None };
            let mut auth = Authenticator::new(&dsn, Some(&password), tls, tls, hash);
            auth.step(&sasl(offered), &mut out)
                .map(|_| (auth.method(), String::from_utf8_lossy(&out).into_owned()))
        };
        let (method, sent) = first("", true, &both).unwrap();
        assert_eq!(method, AuthenticationMethod::ScramSha256Plus);
        assert!(sent.contains("p=tls-server-end-point,,"), "{sent}");
        let (_, sent) = first("", true, &[SCRAM_SHA_256]).unwrap();
        assert!(sent.contains("y,,"), "{sent}");
        let (_, sent) = first("channel_binding=disable", true, &both).unwrap();
        assert!(sent.contains("n,,"), "{sent}");
        assert!(first("channel_binding=require", true, &both).is_ok());
        assert!(first("channel_binding=require", true, &[SCRAM_SHA_256]).is_err());
        assert!(first("channel_binding=require", false, &both).is_err());
        assert!(first("", true, &["OAUTHBEARER"]).is_err());
    }

    #[test]
    fn what_require_auth_forbids_is_refused() {
        let (dsn, password) = (dsn("require_auth=scram-sha-256"), secret());
        let mut out = BytesMut::new();
        for body in
            [message(code::OK, b""), message(code::CLEARTEXT, b""), message(code::MD5, b"abcd")]
        {
            let mut auth = Authenticator::new(&dsn, Some(&password), true, true, None);
            assert!(auth.step(&body, &mut out).is_err());
            assert!(out.is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_sequence_of_messages_panics_or_skips_the_proof(
            bodies in prop::collection::vec((0u32..14, prop::collection::vec(any::<u8>(), 0..60)), 0..6),
        ) {
            let (dsn, password) = (dsn("require_auth=scram-sha-256"), secret());
            let mut auth = Authenticator::new(&dsn, Some(&password), true, true, Some(vec![1; 32]));
            let mut out = BytesMut::new();
            for (code, rest) in bodies {
                let result = auth.step(&message(code, &rest), &mut out);
                prop_assert!(!matches!(result, Ok(Step::Authenticated)));
            }
        }
    }
}
