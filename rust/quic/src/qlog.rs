//! qlog: what connections send, receive and lose, one file for each, as it happens.
//!
//! The records are JSON text sequences (RFC 7464) of qlog 0.3, the latest that qvis reads
//! (draft-ietf-quic-qlog-main-schema-02, draft-ietf-quic-qlog-quic-events-01). quinn tells of
//! packets and of recovery, and its records are completed on their way into the file: it knows
//! neither frames nor the size of received packets, and has round trip times in seconds where the
//! schema has milliseconds.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quinn_proto::{
    ConnectionId, ConnectionIdGenerator, Incoming, QlogConfig, QlogStream,
    RandomConnectionIdGenerator, Side,
};
use rustls::quic::{PacketKey, Tag};
use serde_json::{json, Value};

use crate::frames::describe;
use crate::{Error, TransportOptions};

/// Where the files are made.
#[derive(Clone)]
pub struct QlogDirectory(Arc<Directory>);

struct Directory {
    path: PathBuf,
    report: Box<dyn Fn(String) + Send + Sync>,
    has_failed: AtomicBool,
    last: Mutex<LastPacket>,
}

/// What a connection is made from: where there are logs, it has one of its own.
pub(crate) fn client_config(
    config: &quinn_proto::ClientConfig,
    transport: &TransportOptions,
) -> Result<quinn_proto::ClientConfig, Error> {
    let mut config = config.clone();
    if let Some(qlog) = &transport.qlog {
        let id = RandomConnectionIdGenerator::new(CLIENT_ID_SIZE).generate_cid();
        config
            .initial_dst_cid_provider(Arc::new(move || id))
            .transport_config(transport.build(qlog.start(id, Side::Client))?);
    }
    Ok(config)
}

/// What a connection is made from instead of the server's own configuration, where there are logs.
pub(crate) fn server_config(
    config: &quinn_proto::ServerConfig,
    transport: &TransportOptions,
    incoming: &Incoming,
) -> Option<Arc<quinn_proto::ServerConfig>> {
    let qlog = transport.qlog.as_ref()?;
    let log = qlog.start(*incoming.orig_dst_cid(), Side::Server)?;
    let mut config = config.clone();
    // What the server was made from makes this, too.
    config.transport_config(transport.build(Some(log)).ok()?);
    Some(Arc::new(config))
}

/// What was encrypted or decrypted last. quinn tells of a packet right after that, on the same
/// thread.
#[derive(Default)]
struct LastPacket {
    is_sent: bool,
    number: u64,
    /// Header and authentication tag included.
    size: usize,
    payload: Vec<u8>,
}

impl QlogDirectory {
    /// `report` is told once why a file is not written; it is called while a connection is busy.
    pub fn new(path: PathBuf, report: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Directory {
            path,
            report: Box::new(report),
            has_failed: AtomicBool::new(false),
            last: Mutex::default(),
        }))
    }

    /// Starts the file of a connection, named by the connection id that its client chose first.
    /// One that exists is left alone: no honest client chooses an id twice.
    pub(crate) fn start(&self, id: ConnectionId, side: Side) -> Option<QlogStream> {
        let side = match side {
            Side::Client => "client",
            Side::Server => "server",
        };
        let path = self.0.path.join(format!("{id}_{side}.sqlog"));
        let file = match create(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return None,
            Err(error) => {
                self.0.fail(&path, &error);
                return None;
            }
        };
        let mut trace = Trace {
            directory: self.0.clone(),
            path,
            file: Some(file),
            started: Instant::now(),
            record: Vec::new(),
        };
        trace.put(&header(&id.to_string(), side));
        let mut config = QlogConfig::default();
        config.writer(Box::new(trace));
        config.into_stream()
    }

    /// A key whose packets are told with their frames.
    pub(crate) fn watch(&self, key: Box<dyn PacketKey>) -> Box<dyn PacketKey> {
        Box::new(WatchedKey {
            inner: key,
            directory: self.0.clone(),
        })
    }
}

impl fmt::Debug for QlogDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QlogDirectory").field(&self.0.path).finish()
    }
}

impl Directory {
    fn fail(&self, path: &Path, error: &io::Error) {
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            (self.report)(format!("{}: {error}", path.display()));
        }
    }

    /// A panic elsewhere has ended its connection, and the next packet replaces all of it.
    fn last(&self) -> MutexGuard<'_, LastPacket> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, is_sent: bool, number: u64, size: usize, payload: &[u8]) {
        let mut last = self.last();
        last.is_sent = is_sent;
        last.number = number;
        last.size = size;
        last.payload.clear();
        last.payload.extend_from_slice(payload);
    }
}

/// For its owner alone, and never another's file.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn header(id: &str, side: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    json!({
        "qlog_version": "0.3",
        "qlog_format": "JSON-SEQ",
        "title": format!("pywebtransport {side} {id}"),
        "trace": {
            "vantage_point": {"name": "pywebtransport native", "type": side},
            "common_fields": {
                "ODCID": id,
                "reference_time": milliseconds(now.unwrap_or_default().as_secs_f64()),
                "time_format": "relative",
            },
        },
    })
}

/// The file of one connection, as quinn's streamer writes to it.
struct Trace {
    directory: Arc<Directory>,
    path: PathBuf,
    /// None when it could not be written.
    file: Option<File>,
    started: Instant,
    /// What the streamer has written of a record.
    record: Vec<u8>,
}

impl Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.record.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            let record = std::mem::take(&mut self.record);
            self.take(
                record
                    .trim_ascii()
                    .strip_prefix(&[SEPARATOR])
                    .unwrap_or(&record),
            );
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Trace {
    fn take(&mut self, record: &[u8]) {
        if self.file.is_none() {
            return;
        }
        // quinn's header is no event, and says less than ours.
        let Ok(Value::Object(mut event)) = serde_json::from_slice(record) else {
            return;
        };
        let Some(name) = event.get("name").and_then(Value::as_str).map(str::to_owned) else {
            return;
        };
        if let Some(data) = event.get_mut("data") {
            complete(&name, data, &self.directory.last());
        }
        // quinn counts in f32, which loses the milliseconds within hours.
        let time = milliseconds(self.started.elapsed().as_secs_f64());
        event.insert("time".to_owned(), time);
        event.remove("group_id");
        self.put(&Value::Object(event));
    }

    fn put(&mut self, record: &Value) {
        let Some(file) = &mut self.file else {
            return;
        };
        if let Err(error) = file.write_all(format!("\x1e{record}\n").as_bytes()) {
            self.file = None;
            self.directory.fail(&self.path, &error);
        }
    }
}

/// What quinn does not know of an event, or knows otherwise than the schema.
fn complete(name: &str, data: &mut Value, last: &LastPacket) {
    let number = data["header"]["packet_number"].as_u64();
    let Some(fields) = data.as_object_mut() else {
        return;
    };
    if let Some(Value::Object(header)) = fields.get_mut("header") {
        // 0 of what only acknowledges; `raw` is the place for it.
        header.remove("length");
    }
    match name {
        "transport:packet_sent" | "transport:packet_received" => {
            let is_sent = name == "transport:packet_sent";
            if last.is_sent == is_sent && number == Some(last.number) {
                fields.insert("raw".to_owned(), json!({"length": last.size}));
                fields.insert("frames".to_owned(), describe(&last.payload));
            }
        }
        "recovery:metrics_updated" => {
            for field in ["min_rtt", "smoothed_rtt", "latest_rtt", "rtt_variance"] {
                if let Some(value) = fields.get_mut(field) {
                    *value = milliseconds(value.as_f64().unwrap_or_default());
                }
            }
            // None yet.
            if fields.get("ssthresh").and_then(Value::as_u64) == Some(u64::MAX) {
                fields.remove("ssthresh");
            }
        }
        "recovery:packet_lost" => {
            // quinn subtracts the wrong way round and always names the reordering threshold.
            fields.remove("trigger");
        }
        _ => {}
    }
}

/// With three decimals.
fn milliseconds(seconds: f64) -> Value {
    json!((seconds * 1e6).round() / 1e3)
}

struct WatchedKey {
    inner: Box<dyn PacketKey>,
    directory: Arc<Directory>,
}

impl PacketKey for WatchedKey {
    fn encrypt_in_place(
        &self,
        number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<Tag, rustls::Error> {
        let size = header.len() + payload.len() + self.tag_len();
        self.directory.note(true, number, size, payload);
        self.inner.encrypt_in_place(number, header, payload)
    }

    fn decrypt_in_place<'a>(
        &self,
        number: u64,
        header: &[u8],
        payload: &'a mut [u8],
    ) -> Result<&'a [u8], rustls::Error> {
        let size = header.len() + payload.len();
        let plain = self.inner.decrypt_in_place(number, header, payload)?;
        self.directory.note(false, number, size, plain);
        Ok(plain)
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}

/// Begins each record (RFC 7464 §2.2).
const SEPARATOR: u8 = 0x1e;
/// Bytes of the id that a client chooses for its server, as quinn has it (RFC 9000 §7.2).
const CLIENT_ID_SIZE: usize = 20;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("pywt-qlog-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let report = |text: String| assert_eq!(text, "", "nothing has failed");
        let qlog = QlogDirectory::new(folder.clone(), report);
        let id = ConnectionId::new(b"twice");
        assert!(qlog.start(id, Side::Server).is_some());
        let path = folder.join("7477696365_server.sqlog");
        let before = std::fs::read(&path).unwrap();
        assert!(qlog.start(id, Side::Server).is_none());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_full_disk_ends_one_file_and_is_told_once() {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let reported = reports.clone();
        let report = move |text| reported.lock().unwrap().push(text);
        let QlogDirectory(directory) = QlogDirectory::new("/dev".into(), report);
        for _ in 0..2 {
            let path = PathBuf::from("/dev/full");
            let mut trace = Trace {
                file: Some(OpenOptions::new().append(true).open(&path).unwrap()),
                directory: directory.clone(),
                path,
                started: Instant::now(),
                record: Vec::new(),
            };
            for _ in 0..2 {
                let record = b"\x1e{\"name\":\"transport:packet_sent\",\"data\":{}}\n";
                assert_eq!(trace.write(record).unwrap(), record.len());
                assert!(trace.file.is_none() && trace.record.is_empty());
            }
        }
        let reports = reports.lock().unwrap();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("/dev/full: "), "{reports:?}");
    }
}
