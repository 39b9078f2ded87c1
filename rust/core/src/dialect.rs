//! The drafts of WebTransport over HTTP/3 that deployed peers speak, as one table.
//!
//! Both ends announce every dialect they were configured with. A client asks for a session in the
//! highest one both announced; a server goes by the request: its `:protocol` token and, for draft
//! 02, its version header. Drafts that share their enabling setting share a row: the wire does not
//! tell them apart, and the row holds the rule that serves both. (So a peer of draft 13 with one
//! session and initial limits has flow control on here, off by its own text and on by that of
//! draft 14.)

use pywt_wire::codes::{grease, setting};
use pywt_wire::settings::Settings;

use crate::config::{Config, Role, Transport};
use crate::error::ConnectionError;

/// A family of drafts, named after its oldest widely deployed member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Drafts 02 to 06: Chromium, Firefox, aioquic, webtransport-go before 0.11.
    Draft02,
    /// Drafts 07 to 12: wtransport, web-transport.
    Draft07,
    /// Drafts 13 and 14: PyWebTransport 0.8, Safari 26.4.
    Draft13,
    /// Drafts 15 and 16: webtransport-go from 0.12, PyWebTransport from 0.18.
    Draft15,
}

impl Dialect {
    /// Every dialect, oldest first.
    pub const ALL: [Self; 4] = [Self::Draft02, Self::Draft07, Self::Draft13, Self::Draft15];

    /// Two digits: `02`, `07`, `13` or `15`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The `:protocol` token a client of this dialect sends.
    pub fn token(self) -> &'static str {
        self.row().token
    }

    pub(crate) fn row(self) -> &'static Row {
        match self {
            Self::Draft02 => &TABLE[0],
            Self::Draft07 => &TABLE[1],
            Self::Draft13 => &TABLE[2],
            Self::Draft15 => &TABLE[3],
        }
    }
}

/// What differs between dialects once a connection speaks one.
#[derive(Debug)]
pub(crate) struct Row {
    dialect: Dialect,
    name: &'static str,
    token: &'static str,
    /// The setting that enables the dialect.
    setting: u64,
    /// The enabling setting's value is the number of sessions a server allows.
    counts_sessions: bool,
    /// A server must send ENABLE_CONNECT_PROTOCOL.
    needs_connect_protocol: bool,
    /// Both ends must announce the reset_stream_at transport parameter.
    needs_reset_stream_at: bool,
    /// When session flow control is on.
    flow: FlowRule,
    /// Without session flow control only one session may exist.
    pub(crate) single_without_flow: bool,
    /// The DRAIN capsule exists.
    pub(crate) drain: bool,
    /// Capsules that only the HTTP/2 binding has are a session error.
    pub(crate) forbids_stream_data_capsules: bool,
    /// A limit equal to the last one is an error; else only a smaller one is.
    pub(crate) strict_limits: bool,
    /// A client ends a session whose server chose a protocol nobody offered.
    pub(crate) alpn_mismatch_ends: bool,
    /// The request carries `sec-webtransport-http3-draft02`.
    pub(crate) version_header: bool,
}

#[derive(Clone, Copy, Debug)]
enum FlowRule {
    Never,
    /// Both ends sent a non-zero WT_INITIAL_MAX_*.
    Initial,
    /// Both ends sent WT_MAX_SESSIONS above 1 or a non-zero WT_INITIAL_MAX_*.
    InitialOrSessions,
}

const TABLE: [Row; 4] = [
    Row {
        dialect: Dialect::Draft02,
        name: "02",
        token: TOKEN_LEGACY,
        setting: setting::ENABLE_WEBTRANSPORT_DRAFT02,
        counts_sessions: false,
        needs_connect_protocol: false,
        needs_reset_stream_at: false,
        flow: FlowRule::Never,
        single_without_flow: false,
        drain: false,
        forbids_stream_data_capsules: false,
        strict_limits: false,
        alpn_mismatch_ends: false,
        version_header: true,
    },
    Row {
        dialect: Dialect::Draft07,
        name: "07",
        token: TOKEN_LEGACY,
        setting: setting::WT_MAX_SESSIONS_DRAFT07,
        counts_sessions: true,
        needs_connect_protocol: true,
        needs_reset_stream_at: false,
        flow: FlowRule::Initial,
        single_without_flow: false,
        drain: true,
        forbids_stream_data_capsules: false,
        strict_limits: false,
        alpn_mismatch_ends: false,
        version_header: false,
    },
    Row {
        dialect: Dialect::Draft13,
        name: "13",
        token: TOKEN_LEGACY,
        setting: setting::WT_MAX_SESSIONS_DRAFT13,
        counts_sessions: true,
        needs_connect_protocol: true,
        needs_reset_stream_at: true,
        flow: FlowRule::InitialOrSessions,
        single_without_flow: true,
        drain: true,
        forbids_stream_data_capsules: true,
        strict_limits: false,
        alpn_mismatch_ends: false,
        version_header: false,
    },
    Row {
        dialect: Dialect::Draft15,
        name: "15",
        token: TOKEN_CURRENT,
        setting: setting::WT_ENABLED,
        counts_sessions: false,
        needs_connect_protocol: true,
        needs_reset_stream_at: true,
        flow: FlowRule::Initial,
        single_without_flow: true,
        drain: true,
        forbids_stream_data_capsules: true,
        strict_limits: true,
        alpn_mismatch_ends: true,
        version_header: false,
    },
];

pub(crate) const TOKEN_LEGACY: &str = "webtransport";
pub(crate) const TOKEN_CURRENT: &str = "webtransport-h3";

/// The union of what every configured dialect wants announced (RFC 9114 §7.2.4).
pub(crate) fn local_settings(config: &Config, transport: &Transport) -> Settings {
    let offered = config.flow_control.is_offered();
    let limits = &config.limits;
    let mut settings = Settings::new();
    let mut put = |id, value| {
        settings.insert(id, value);
    };
    put(setting::QPACK_MAX_TABLE_CAPACITY, 0);
    put(
        setting::MAX_FIELD_SECTION_SIZE,
        limits.max_field_section_size,
    );
    put(setting::QPACK_BLOCKED_STREAMS, 0);
    if config.dialects.is_empty() {
        return settings;
    }
    put(setting::ENABLE_CONNECT_PROTOCOL, 1);
    // RFC 9297 §2.1.1: only with QUIC datagrams. Firefox keeps whichever of the two comes first.
    if transport.local_max_datagram_frame_size > 0 {
        put(setting::H3_DATAGRAM, 1);
        if config.dialects.contains(&Dialect::Draft02) {
            put(setting::H3_DATAGRAM_DRAFT04, 1);
        }
    }
    let sessions = match config.role {
        Role::Client => 1,
        Role::Server => limits.max_sessions.max(1),
    };
    for dialect in Dialect::ALL
        .iter()
        .filter(|dialect| config.dialects.contains(dialect))
    {
        let value = match dialect {
            Dialect::Draft02 | Dialect::Draft15 => 1,
            Dialect::Draft07 => sessions,
            // More than 1 promises session flow control (webtrans-http3-13 §5.1).
            Dialect::Draft13 if offered => limits.max_sessions.max(2),
            Dialect::Draft13 => 1,
        };
        put(dialect.row().setting, value);
    }
    if offered {
        put(
            setting::WT_INITIAL_MAX_DATA,
            config.flow_control.initial_max_data,
        );
        put(
            setting::WT_INITIAL_MAX_STREAMS_UNI,
            config.flow_control.initial_max_streams_uni,
        );
        put(
            setting::WT_INITIAL_MAX_STREAMS_BIDI,
            config.flow_control.initial_max_streams_bidi,
        );
    }
    if config.grease {
        put(
            grease(config.grease_seed & 0xff_ffff),
            config.grease_seed >> 32,
        );
    }
    settings
}

/// How a peer puts capsules on a CONNECT stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In DATA frames (RFC 9297 §3.2).
    Data,
    /// As they are, where frames belong. PyWebTransport 0.8 writes and expects that; it also
    /// enforces limits it was never granted, and knows no session limit.
    Raw,
}

/// What the peer's SETTINGS mean for this connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) settings: Settings,
    /// The dialects both ends announced, oldest first; none: no WebTransport.
    common: Vec<Dialect>,
    pub(crate) framing: Framing,
    /// Session flow control is offered by us.
    offers_flow: bool,
    /// The peer agreed to HTTP Datagrams.
    pub(crate) datagrams: bool,
    /// Sessions a client may have on this connection by the server's SETTINGS.
    pub(crate) max_sessions: u64,
}

impl Peer {
    pub(crate) fn new(
        settings: Settings,
        config: &Config,
        transport: &Transport,
    ) -> Result<Self, ConnectionError> {
        let get = |id| settings.get(id).unwrap_or(0);
        // webtrans-http3-16 §3.1.
        if config.role == Role::Client || config.strict {
            settings.check_wt_enabled()?;
        }
        // RFC 9297 §2.1.1; deployed peers announce one without the other.
        if config.strict && get(setting::H3_DATAGRAM) == 1 && transport.max_datagram_frame_size == 0
        {
            return Err(ConnectionError::DatagramSetting);
        }
        let common = common(&settings, config, transport);
        let framing = match !config.strict && is_pywebtransport_08(&settings) {
            true => Framing::Raw,
            false => Framing::Data,
        };
        let datagrams = get(setting::H3_DATAGRAM) == 1
            || (common.contains(&Dialect::Draft02) && get(setting::H3_DATAGRAM_DRAFT04) == 1);
        let mut peer = Self {
            settings,
            common,
            framing,
            offers_flow: config.flow_control.is_offered(),
            datagrams,
            max_sessions: u64::MAX,
        };
        if let Some(dialect) = peer.dialect() {
            let row = dialect.row();
            if peer.is_single(dialect) {
                peer.max_sessions = 1;
            } else if row.counts_sessions {
                peer.max_sessions = peer.get(row.setting);
            }
        }
        Ok(peer)
    }

    /// The highest dialect both ends know.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        self.common.last().copied()
    }

    /// The dialect of a request: the highest that has its token, and draft 02 for the one that
    /// says so. `None`: none has, and `strict` takes no other.
    pub(crate) fn dialect_of(&self, token: &str, draft02: bool, strict: bool) -> Option<Dialect> {
        if draft02 && token == TOKEN_LEGACY && self.common.contains(&Dialect::Draft02) {
            return Some(Dialect::Draft02);
        }
        let has_token = |dialect: &&Dialect| dialect.token() == token;
        let fitting = self.common.iter().rfind(has_token).copied();
        fitting.or_else(|| self.dialect().filter(|_| !strict))
    }

    /// Session flow control is on in sessions of this dialect.
    pub(crate) fn has_flow(&self, dialect: Dialect) -> bool {
        let initial = self.initial_max_data() > 0
            || self.initial_max_streams_uni() > 0
            || self.initial_max_streams_bidi() > 0;
        let peer = match dialect.row().flow {
            FlowRule::Never => false,
            FlowRule::Initial => initial,
            FlowRule::InitialOrSessions => {
                initial || self.get(setting::WT_MAX_SESSIONS_DRAFT13) > 1
            }
        };
        self.offers_flow && peer && self.framing == Framing::Data
    }

    /// A session of this dialect shares the connection with no other.
    pub(crate) fn is_single(&self, dialect: Dialect) -> bool {
        dialect.row().single_without_flow
            && !self.has_flow(dialect)
            && self.framing == Framing::Data
    }

    /// The largest field section the peer takes (RFC 9114 §4.2.2).
    pub(crate) fn max_section(&self) -> u64 {
        self.settings
            .get(setting::MAX_FIELD_SECTION_SIZE)
            .unwrap_or(u64::MAX)
    }

    fn get(&self, id: u64) -> u64 {
        self.settings.get(id).unwrap_or(0)
    }

    pub(crate) fn initial_max_data(&self) -> u64 {
        self.get(setting::WT_INITIAL_MAX_DATA)
    }

    pub(crate) fn initial_max_streams_bidi(&self) -> u64 {
        self.get(setting::WT_INITIAL_MAX_STREAMS_BIDI)
    }

    pub(crate) fn initial_max_streams_uni(&self) -> u64 {
        self.get(setting::WT_INITIAL_MAX_STREAMS_UNI)
    }
}

/// Checks that a server which accepted 0-RTT kept what it had promised (RFC 9114 §7.2.4.2,
/// webtrans-http3-16 §3.2).
pub(crate) fn check_early(early: &Settings, now: &Settings) -> Result<(), ConnectionError> {
    for (id, before) in early.iter() {
        let kept = match id {
            setting::QPACK_MAX_TABLE_CAPACITY
            | setting::QPACK_BLOCKED_STREAMS
            | setting::MAX_FIELD_SECTION_SIZE
            | setting::ENABLE_CONNECT_PROTOCOL
            | setting::H3_DATAGRAM
            | setting::WT_INITIAL_MAX_DATA
            | setting::WT_INITIAL_MAX_STREAMS_UNI
            | setting::WT_INITIAL_MAX_STREAMS_BIDI => true,
            _ => TABLE.iter().any(|row| row.setting == id),
        };
        if kept && now.get(id).unwrap_or(0) < before {
            return Err(ConnectionError::SettingReduced(id));
        }
    }
    Ok(())
}

fn common(settings: &Settings, config: &Config, transport: &Transport) -> Vec<Dialect> {
    let get = |id| settings.get(id).unwrap_or(0);
    let from_server = config.role == Role::Client;
    // RFC 9220 §3: a server that says 0 takes no extended CONNECT, whatever else it says.
    if from_server && settings.get(setting::ENABLE_CONNECT_PROTOCOL) == Some(0) {
        return Vec::new();
    }
    let connect_protocol = get(setting::ENABLE_CONNECT_PROTOCOL) == 1;
    let usable = |row: &&Row| {
        let missing = (row.needs_connect_protocol && from_server && !connect_protocol)
            || (row.needs_reset_stream_at && !transport.resets_at());
        config.dialects.contains(&row.dialect)
            && get(row.setting) > 0
            && !(config.strict && missing)
    };
    let mut common: Vec<_> = TABLE.iter().filter(usable).map(|row| row.dialect).collect();
    // webtransport-go before 0.12 announces nothing as a client, and a server that allows
    // extended CONNECT may be such a peer too; both mean the stream binding of draft 02. One that
    // says 0 means 0.
    let silent = TABLE.iter().all(|row| settings.get(row.setting).is_none());
    let lenient = !config.strict && silent && (config.role == Role::Server || connect_protocol);
    if lenient && config.dialects.contains(&Dialect::Draft02) {
        common.push(Dialect::Draft02);
    }
    common
}

/// PyWebTransport 0.8 sends exactly these settings in this order and no reserved one.
fn is_pywebtransport_08(settings: &Settings) -> bool {
    const ORDER: [(u64, Option<u64>); 8] = [
        (setting::ENABLE_CONNECT_PROTOCOL, Some(1)),
        (setting::H3_DATAGRAM, Some(1)),
        (setting::QPACK_BLOCKED_STREAMS, Some(16)),
        (setting::QPACK_MAX_TABLE_CAPACITY, Some(4096)),
        (setting::WT_INITIAL_MAX_DATA, None),
        (setting::WT_INITIAL_MAX_STREAMS_BIDI, None),
        (setting::WT_INITIAL_MAX_STREAMS_UNI, None),
        (setting::WT_MAX_SESSIONS_DRAFT13, None),
    ];
    settings.len() == ORDER.len()
        && settings
            .iter()
            .zip(ORDER)
            .all(|((id, value), (want, exact))| id == want && exact.is_none_or(|v| v == value))
}
