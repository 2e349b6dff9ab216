//! The write-ahead log: segment files, pages, records and the events recovery can stop at.

pub mod block;
pub mod change;
pub mod error;
pub mod event;
mod page_header;
pub mod reader;
pub mod record;
pub mod segment;
pub mod tablespace;
mod xact;
