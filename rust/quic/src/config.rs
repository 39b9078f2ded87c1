//! Transport settings, with defaults chosen for throughput on a fast path.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::congestion::{ControllerFactory, CubicConfig, NewRenoConfig};
use quinn_proto::{
    AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, QlogStream, TransportConfig, VarInt,
};

use crate::ack_clock::{AckClock, Observed};
use crate::allowance::at_first;
use crate::bbr::BbrConfig;
use crate::{Error, QlogDirectory};

/// The congestion control algorithm of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// BBR, which models the path instead of reacting to loss.
    Bbr,
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// NewReno as of RFC 9002 §7.
    NewReno,
}

impl Congestion {
    /// Whether it says at which rate packets are to leave.
    pub(crate) fn is_paced(self) -> bool {
        self == Self::Bbr
    }
}

/// Everything about a connection that is neither TLS nor application.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// Kept up to date with the peer's acknowledgements, when there is one.
    pub ack_clock: Option<Arc<AckClock>>,
    /// Congestion control algorithm.
    pub congestion: Congestion,
    /// Bytes of received datagrams kept until taken; the oldest are dropped beyond it. 0 turns
    /// the DATAGRAM extension off.
    pub datagram_receive_buffer: usize,
    /// Bytes of outgoing datagrams kept until they fit in packets.
    pub datagram_send_buffer: usize,
    /// Concurrent peer streams allowed at the start, per direction. Once a few have been opened, every
    /// allowed stream costs memory, so the limit starts low and stays ahead of use; see
    /// [`crate::Connection::accept`].
    pub initial_streams: u64,
    /// PING after this much silence.
    pub keep_alive_interval: Option<Duration>,
    /// Silence that ends the connection; the peer may ask for less.
    pub max_idle_timeout: Option<Duration>,
    /// Largest UDP payload that path MTU discovery tries.
    pub max_mtu: u16,
    /// What `initial_streams` may grow to for bidirectional streams.
    pub max_streams_bidi: u64,
    /// What `initial_streams` may grow to for unidirectional streams.
    pub max_streams_uni: u64,
    /// Whether larger packets than 1200 bytes are tried (RFC 8899).
    pub mtu_discovery: bool,
    /// Where each connection is logged, if anywhere.
    pub qlog: Option<QlogDirectory>,
    /// Unread bytes the peer may have outstanding on all streams of a connection together.
    pub receive_window: u64,
    /// Unacknowledged bytes kept for all streams of a connection together.
    pub send_window: u64,
    /// Unread bytes the peer may have outstanding on one stream. Above about 2.5 MB at 1452 byte
    /// packets a burst of losses can exceed quinn's bound of 1024 gaps, which is fatal.
    pub stream_receive_window: u64,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            ack_clock: None,
            congestion: Congestion::default(),
            datagram_receive_buffer: 1024 * 1024,
            datagram_send_buffer: 256 * 1024,
            // What quinn's hash tables hold, for both directions together, before they double; and
            // more than the hundred streams that pages open without waiting: a browser does not wait
            // for more, it fails.
            initial_streams: 110,
            keep_alive_interval: None,
            max_idle_timeout: Some(Duration::from_secs(30)),
            max_mtu: 1452,
            max_streams_bidi: 1024,
            max_streams_uni: 1024,
            mtu_discovery: true,
            qlog: None,
            receive_window: 16 * 1024 * 1024,
            send_window: 16 * 1024 * 1024,
            stream_receive_window: 2_500_000,
        }
    }
}

impl TransportOptions {
    /// Streams that the peer may open at first, by `Dir as usize`.
    pub(crate) fn announced_streams(&self) -> [u64; 2] {
        [self.max_streams_bidi, self.max_streams_uni].map(|most| most.min(self.initial_streams))
    }

    /// For all connections, or for the one whose log is given.
    pub(crate) fn build(&self, qlog: Option<QlogStream>) -> Result<Arc<TransportConfig>, Error> {
        let mut config = TransportConfig::default();
        let factory: Arc<dyn ControllerFactory + Send + Sync> = match self.congestion {
            Congestion::Bbr => Arc::new(BbrConfig),
            Congestion::Cubic => Arc::new(CubicConfig::default()),
            Congestion::NewReno => Arc::new(NewRenoConfig::default()),
        };
        config.congestion_controller_factory(Arc::new(Observed {
            factory,
            clock: self.ack_clock.clone(),
        }));
        let mut ack_frequency = AckFrequencyConfig::default();
        ack_frequency
            .max_ack_delay(Some(MAX_ACK_DELAY))
            .reordering_threshold(VarInt::from_u32(1));
        let idle = match self.max_idle_timeout {
            None => None,
            Some(limit) => Some(IdleTimeout::try_from(limit).map_err(|_| Error::OutOfRange {
                field: "max_idle_timeout",
                value: limit.as_secs(),
            })?),
        };
        let discovery = self.mtu_discovery.then(|| {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery
                .upper_bound(self.max_mtu)
                .minimum_change(mtu_precision(self.max_mtu));
            discovery
        });
        let [bidi, uni] = self.announced_streams();
        config
            .max_concurrent_bidi_streams(varint("initial_streams", at_first(bidi))?)
            .max_concurrent_uni_streams(varint("initial_streams", at_first(uni))?)
            .ack_frequency_config(Some(ack_frequency))
            .initial_rtt(INITIAL_RTT)
            .max_idle_timeout(idle)
            .keep_alive_interval(self.keep_alive_interval)
            .stream_receive_window(varint("stream_receive_window", self.stream_receive_window)?)
            .receive_window(varint("receive_window", self.receive_window)?)
            .send_window(self.send_window)
            .mtu_discovery_config(discovery)
            .datagram_receive_buffer_size(
                (self.datagram_receive_buffer > 0).then_some(self.datagram_receive_buffer),
            )
            .datagram_send_buffer_size(self.datagram_send_buffer)
            .qlog_stream(qlog);
        Ok(Arc::new(config))
    }
}

/// What path MTU discovery may miss: so much that it tries the upper bound at once, which most
/// paths have, then the middle. Each finer step would cost every connection a packet of padding.
fn mtu_precision(upper_bound: u16) -> u16 {
    upper_bound.saturating_sub(MIN_MTU) / 2 + 1
}

/// Taken for the round trip time before there is a measurement: a lost first packet is repeated
/// after three of them. RFC 9002 §6.2.2 recommends 333 ms, at which three losses in a row cost
/// seven seconds; browsers and quic-go use this value.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// How long the peer is asked to wait at most before it acknowledges, where it can be asked
/// (draft-ietf-quic-ack-frequency). Every probe for a lost packet waits as much longer; by default it is
/// 25 ms (RFC 9000 §18.2), more than many round trips. Answers that ride with an ACK take less.
const MAX_ACK_DELAY: Duration = Duration::from_millis(5);
/// RFC 9000 §14.
const MIN_MTU: u16 = 1200;

fn varint(field: &'static str, value: u64) -> Result<VarInt, Error> {
    VarInt::from_u64(value).map_err(|_| Error::OutOfRange { field, value })
}
