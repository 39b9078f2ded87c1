//! TLS secrets for packet analysers, in the NSS key log format.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use crate::Error;

/// Appends secrets to a file. A write that fails, on a full disk for one, loses its line and
/// nothing else: connections do not depend on the log.
pub struct FileKeyLog {
    file: Mutex<File>,
}

impl FileKeyLog {
    /// Opens or creates the file for appending.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self {
            file: Mutex::new(file),
        })
    }
}

impl rustls::KeyLog for FileKeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line =
            String::with_capacity(label.len() + 2 * (client_random.len() + secret.len()) + 3);
        line.push_str(label);
        for bytes in [client_random, secret] {
            line.push(' ');
            for byte in bytes {
                line.extend([byte >> 4, byte & 0xf].map(hex_digit));
            }
        }
        line.push('\n');
        if let Ok(mut file) = self.file.lock() {
            // Losing the line is the documented answer to a failed write.
            let _lost = file.write_all(line.as_bytes());
        }
    }
}

impl fmt::Debug for FileKeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKeyLog")
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}
