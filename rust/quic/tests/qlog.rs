//! The logs of connections: what is in them, and that nothing depends on them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::{client_tls, identity, read_all, server_tls, Pair};
use pywt_quic::{Dir, QlogDirectory, ServerOptions, TransportOptions};
use serde_json::Value;

type Reports = Arc<Mutex<Vec<String>>>;

fn transport(path: &Path) -> (TransportOptions, Reports) {
    let reports = Reports::default();
    let reported = reports.clone();
    let qlog = QlogDirectory::new(path.into(), move |text| {
        reported.lock().unwrap().push(text);
    });
    let transport = TransportOptions {
        qlog: Some(qlog),
        ..TransportOptions::default()
    };
    (transport, reports)
}

/// A folder of this test's own, made anew.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _absent = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn connected(transport: TransportOptions) -> Pair {
    let tls = server_tls(identity().0);
    let mut pair = Pair::new(&tls, transport.clone(), ServerOptions::default());
    pair.connect(&client_tls(), transport);
    pair.settle();
    pair
}

/// The file of this side, as far as it is written.
fn records(path: &Path, side: &str) -> Vec<Value> {
    let ending = format!("_{side}.sqlog");
    let mut files = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = files
        .find(|file| file.to_str().unwrap().ends_with(&ending))
        .unwrap();
    let text = fs::read_to_string(file).unwrap();
    assert!(text.starts_with('\x1e') && text.ends_with('\n'));
    text.split('\x1e')
        .skip(1)
        .map(|record| serde_json::from_str(record).unwrap())
        .collect()
}

fn events<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    let named = |record: &&Value| record["name"] == name;
    records.iter().filter(named).map(|it| &it["data"]).collect()
}

/// All frames of this type, of the packets sent or received.
fn frames<'a>(records: &'a [Value], event: &str, kind: &str) -> Vec<&'a Value> {
    events(records, event)
        .into_iter()
        .flat_map(|data| data["frames"].as_array().unwrap())
        .filter(|frame| frame["frame_type"] == kind)
        .collect()
}

const SENT: &str = "transport:packet_sent";
const RECEIVED: &str = "transport:packet_received";

#[test]
fn both_sides_tell_of_every_packet_while_the_connection_lives() {
    let path = folder("both_sides");
    let mut pair = connected(transport(&path).0);
    let client = pair.client.only();
    let id = client.open(Dir::Uni).unwrap();
    client.write(id, b"of which nothing is logged");
    client.finish(id);
    client
        .send_datagram(Bytes::from_static(b"seven b"))
        .unwrap();
    pair.settle();
    let (client, server) = (records(&path, "client"), records(&path, "server"));
    for (side, records) in [("client", &client), ("server", &server)] {
        let header = &records[0];
        assert_eq!(header["qlog_version"], "0.3");
        assert_eq!(header["qlog_format"], "JSON-SEQ");
        assert_eq!(header["trace"]["vantage_point"]["type"], side);
        let common = &header["trace"]["common_fields"];
        assert_eq!(common["time_format"], "relative");
        assert!(common["reference_time"].as_f64().unwrap() > 1.7e12);
        let times: Vec<f64> = records[1..]
            .iter()
            .map(|record| record["time"].as_f64().unwrap())
            .collect();
        assert!(times.is_sorted() && times[0] >= 0.0);
        let types = |event| -> Vec<String> {
            let packets = events(records, event).into_iter();
            packets
                .map(|data| data["header"]["packet_type"].to_string())
                .collect()
        };
        for event in [SENT, RECEIVED] {
            let types = types(event);
            for each in ["\"initial\"", "\"handshake\"", "\"1RTT\""] {
                assert!(
                    types.iter().any(|kind| kind == each),
                    "{side} {event} {each}"
                );
            }
            for data in events(records, event) {
                assert!(data["raw"]["length"].as_u64().unwrap() > 20);
                assert!(!data["frames"].as_array().unwrap().is_empty());
            }
        }
        // In milliseconds: the wire takes ten there and ten back.
        let metrics = events(records, "recovery:metrics_updated");
        let rtts: Vec<f64> = metrics
            .iter()
            .filter_map(|data| data["latest_rtt"].as_f64())
            .collect();
        let wire = 2.0 * pair.latency.as_secs_f64() * 1000.0;
        assert!(rtts.iter().any(|rtt| (rtt - wire).abs() < 1.0), "{rtts:?}");
        assert!(metrics
            .iter()
            .any(|data| data["congestion_window"].is_u64()));
        assert!(metrics.iter().all(|data| data["ssthresh"].is_null()));
        assert!(!serde_json::to_string(records)
            .unwrap()
            .contains("nothing is logged"));
    }
    assert_eq!(
        client[0]["trace"]["common_fields"]["ODCID"],
        server[0]["trace"]["common_fields"]["ODCID"]
    );
    for (records, event) in [(&client, SENT), (&server, RECEIVED)] {
        let stream = frames(records, event, "stream")[0];
        assert_eq!(stream["stream_id"], id);
        assert_eq!(stream["length"], 26);
        assert_eq!(stream["fin"], true);
        assert_eq!(frames(records, event, "datagram")[0]["length"], 7);
        assert!(!frames(records, event, "crypto").is_empty());
    }
    assert!(frames(&server, SENT, "ack")[0]["acked_ranges"].is_array());
}

#[test]
fn lost_packets_are_named_as_they_were_sent() {
    let path = folder("lost_packets");
    let mut pair = connected(transport(&path).0);
    let client = pair.client.only();
    let id = client.open(Dir::Uni).unwrap();
    client.write(id, &[7; 100_000]);
    client.finish(id);
    pair.drop_if = Box::new(|number| number % 7 == 0);
    let mut arrived = 0;
    for _ in 0..100 {
        pair.advance(Duration::from_millis(100));
        let server = pair.server.only();
        server.accept(Dir::Uni);
        arrived += read_all(server, id).0.len();
    }
    assert_eq!(arrived, 100_000);
    let client = records(&path, "client");
    let sent: Vec<u64> = numbers(&client, SENT);
    let lost = numbers(&client, "recovery:packet_lost");
    assert!(!lost.is_empty());
    assert!(lost.iter().all(|number| sent.contains(number)));
    assert_eq!(lost.len() as u64, pair.client.only().packets_lost());
}

fn numbers(records: &[Value], event: &str) -> Vec<u64> {
    events(records, event)
        .iter()
        .map(|data| data["header"]["packet_number"].as_u64().unwrap())
        .collect()
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let path = folder("owner");
    connected(transport(&path).0);
    let modes: Vec<u32> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().permissions().mode() & 0o777)
        .collect();
    assert_eq!(modes, [0o600, 0o600]);
}

#[test]
fn where_no_file_can_be_made_connections_go_on_and_it_is_told_once() {
    let path = folder("missing").join("gone");
    let (transport, reports) = transport(&path);
    let mut pair = connected(transport);
    assert!(!pair.client.only().is_handshaking());
    let reports = reports.lock().unwrap();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].contains("gone"), "{reports:?}");
}
