//! PostgreSQL servers of our own: which ones this machine can start, and private ones that it does.

pub mod binaries;
pub mod identity;
pub mod private;
