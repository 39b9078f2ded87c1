//! What the targets share.

pub mod packet;
pub mod piece;
#[path = "../../core/tests/support/mod.rs"]
pub mod support;
