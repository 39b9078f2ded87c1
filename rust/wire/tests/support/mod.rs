//! Where the protocol data lies, and how it is written.

use std::path::{Path, PathBuf};

/// `tests/data/protocol`, which the Python tests read as well.
pub fn data(name: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data/protocol")
        .join(name)
}

/// Name and value.
pub type Pair = (Vec<u8>, Vec<u8>);
