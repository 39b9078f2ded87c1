//! The crate wtransport as a contender of the peers benchmark.
//!
//! `bench-wtransport serve PORT CERT KEY` answers the operations of ../server.py;
//! `bench-wtransport client PORT SERVER_PID WORKLOAD` prints one JSON object of the figures that
//! ../client.py has, by the same steps.

mod client;
mod server;

use std::sync::Arc;
use std::time::Duration;

use quinn::{TransportConfig, VarInt};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

pub const CHUNK: usize = 65_536;

/// A number from the environment, as ../run.py sets them for all contenders.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The crate's own defaults, but for the streams that every contender allows.
pub fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    let streams = VarInt::from_u32(setting("STREAMS", 200) as u32);
    config.max_concurrent_bidi_streams(streams).max_concurrent_uni_streams(streams);
    config.keep_alive_interval(Some(Duration::from_secs(3)));
    config
}

/// Writes `left` bytes in chunks.
pub async fn write(stream: &mut wtransport::SendStream, mut left: usize) -> Result<()> {
    let data = vec![b'x'; CHUNK];
    while left > 0 {
        let size = left.min(CHUNK);
        stream.write_all(&data[..size]).await?;
        left -= size;
    }
    Ok(())
}

/// Reads to the end; how many bytes there were.
pub async fn count(stream: &mut wtransport::RecvStream) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    while let Some(size) = stream.read(&mut buffer).await? {
        total += size as u64;
    }
    Ok(total)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port, cert, key] => server::serve(port.parse()?, cert, key).await,
        ["client", port, pid, workload] => {
            let bench = Arc::new(client::Bench::new(port.parse()?, pid.parse()?)?);
            let figures = tokio::time::timeout(Duration::from_secs(120), bench.run(workload));
            let fields: Vec<String> = figures
                .await??
                .iter()
                .map(|(name, value)| format!("\"{name}\": {value}"))
                .collect();
            println!("{{\"version\": \"0.7.2\", {}}}", fields.join(", "));
            Ok(())
        }
        _ => Err("usage: bench-wtransport serve PORT CERT KEY | client PORT PID WORKLOAD".into()),
    }
}
