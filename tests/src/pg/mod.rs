//! Private PostgreSQL servers for tests.
//!
//! Each server has its own data directory (copied from a cached template), port and socket folder.
//! `postgres` refuses to run as root: then it runs as the account `postgres` or `nobody`, and the
//! tests, being root, still read its files.

mod account;
mod binaries;
mod client;
mod server;
mod template;
mod tls;

pub use account::Account;
pub use binaries::Binaries;
pub use server::{Builder, StopMode, TestServer};
pub use tls::TestCa;

#[cfg(test)]
mod tests;
