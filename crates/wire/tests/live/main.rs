//! The client against real PostgreSQL servers, each started for one test and thrown away.
//!
//! Servers of the majors 15 and 17 must be there (see [`server::Installation`]); 14 is tested when it
//! is, because its backup stream is of another form.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod authentication;
mod backup;
mod server;
mod streaming;
mod tls;

/// One test for each major that must be there, named `on_15`, `on_17`.
macro_rules! on_each_major {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn on_15() {
                super::$name(15).await;
            }
            #[tokio::test]
            async fn on_17() {
                super::$name(17).await;
            }
        }
    };
}
pub(crate) use on_each_major;
