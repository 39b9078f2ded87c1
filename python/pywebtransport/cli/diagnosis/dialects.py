"""What a server's SETTINGS mean: drafts it offers, browsers it serves."""

from __future__ import annotations

from dataclasses import dataclass

from pywebtransport._native import CoreConfig, CoreConnection, frame_encode, settings_encode
from pywebtransport.cli.diagnosis.handshake import CONTROL_STREAM, Handshake
from pywebtransport.cli.diagnosis.report import Report
from pywebtransport.constants import (
    H3_FRAME_TYPE_SETTINGS,
    MAX_DATAGRAM_SIZE,
    SETTINGS_ENABLE_CONNECT_PROTOCOL,
    SETTINGS_H3_DATAGRAM,
    SETTINGS_WT_INITIAL_MAX_DATA,
    SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI,
    SETTINGS_WT_INITIAL_MAX_STREAMS_UNI,
    SETTINGS_WT_MAX_SESSIONS,
)

__all__ = ["Served", "check_settings", "served"]

SETTINGS_ENABLE_WEBTRANSPORT = 0x2B603742
SETTINGS_WT_MAX_SESSIONS_DRAFT07 = 0xC671706A
SETTINGS_WT_ENABLED = 0x2C7CF000
SETTINGS_H3_DATAGRAM_DRAFT04 = 0xFFD277

DRAFTS = {
    "02": SETTINGS_ENABLE_WEBTRANSPORT,
    "07": SETTINGS_WT_MAX_SESSIONS_DRAFT07,
    "13": SETTINGS_WT_MAX_SESSIONS,
    "15": SETTINGS_WT_ENABLED,
}
"""Families of drafts, by their oldest members, and the settings that enable them."""
CREDIT = (
    SETTINGS_WT_INITIAL_MAX_DATA,
    SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI,
    SETTINGS_WT_INITIAL_MAX_STREAMS_UNI,
)
NAMES = {
    SETTINGS_ENABLE_CONNECT_PROTOCOL: "ENABLE_CONNECT_PROTOCOL",
    SETTINGS_H3_DATAGRAM: "H3_DATAGRAM",
    SETTINGS_H3_DATAGRAM_DRAFT04: "H3_DATAGRAM (draft 04)",
    SETTINGS_ENABLE_WEBTRANSPORT: "ENABLE_WEBTRANSPORT (draft 02)",
    SETTINGS_WT_MAX_SESSIONS_DRAFT07: "WEBTRANSPORT_MAX_SESSIONS (draft 07)",
    SETTINGS_WT_MAX_SESSIONS: "WT_MAX_SESSIONS (draft 13)",
    SETTINGS_WT_ENABLED: "WT_ENABLED (draft 15)",
    SETTINGS_WT_INITIAL_MAX_DATA: "WT_INITIAL_MAX_DATA",
    SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI: "WT_INITIAL_MAX_STREAMS_BIDI",
    SETTINGS_WT_INITIAL_MAX_STREAMS_UNI: "WT_INITIAL_MAX_STREAMS_UNI",
}
UPGRADE = (
    "let the server announce what they need: a server of this library does, with session_credit on"
)


def check_settings(report: Report, handshake: Handshake) -> bool:
    """Report the drafts and the browsers; whether there is WebTransport at all."""
    settings = handshake.settings
    if settings is None:
        report.fail(
            "settings",
            handshake.settings_fault or "the server sends no HTTP/3 SETTINGS",
            cause="settings.malformed" if handshake.settings_fault else "settings.missing",
            remedy="the server breaks RFC 9114: report it to the maker of its HTTP/3 library",
        )
        return False
    shown = {NAMES.get(key, f"{key:#x}"): value for key, value in settings.items()}
    offered = [draft for draft in DRAFTS if _speaks(handshake, draft, strict=False)]
    facts = {"drafts": offered, "settings": shown}
    if not offered:
        report.fail(
            "settings",
            "the server speaks HTTP/3 but announces no WebTransport",
            cause="settings.no_webtransport",
            remedy="enable WebTransport in that server, or connect to the one that has it",
            **facts,
        )
        return False
    proper = [draft for draft in offered if _speaks(handshake, draft, strict=True)]
    text = f"WebTransport of {_drafts(offered)}"
    if proper:
        if len(proper) < len(offered):
            text += f" ({_drafts([d for d in offered if d not in proper])} not to the letter)"
        report.ok("settings", text, **facts)
    else:
        report.warn(
            "settings",
            f"{text}, not to the letter: it lacks {_lacking(handshake, offered)}",
            cause="settings.incomplete",
            remedy="strict clients refuse this: upgrade the server's library",
            **facts,
        )
    _check_browsers(report, handshake)
    return True


@dataclass(frozen=True)
class Served:
    """Whether a browser opens sessions, by what the server announces."""

    browser: str
    fault: str = ""
    """Why not; "": it does."""


def served(handshake: Handshake) -> list[Served]:
    """As measured with Chromium 156 and Firefox 153, and reported of Safari 26."""
    settings = handshake.settings or {}
    old = settings.get(SETTINGS_ENABLE_WEBTRANSPORT) == 1
    datagrams = 1 in (
        settings.get(SETTINGS_H3_DATAGRAM),
        settings.get(SETTINGS_H3_DATAGRAM_DRAFT04),
    )
    missing = "" if old else "it needs ENABLE_WEBTRANSPORT=1 of draft 02"
    return [
        Served("Chromium", missing or ("" if datagrams else "it needs H3_DATAGRAM=1")),
        Served("Firefox", missing),
        Served("Safari", _safari_fault(settings)),
    ]


def _safari_fault(settings: dict[int, int]) -> str:
    sessions = settings.get(SETTINGS_WT_MAX_SESSIONS, 0)
    if not sessions and not settings.get(SETTINGS_WT_MAX_SESSIONS_DRAFT07):
        return "it needs WT_MAX_SESSIONS of draft 07 or 13"
    credit = all(settings.get(key) for key in CREDIT)
    if sessions and not credit:
        return "it opens no streams without the three WT_INITIAL_MAX_* settings"
    return ""


def _check_browsers(report: Report, handshake: Handshake) -> None:
    found = served(handshake)
    good = [each.browser for each in found if not each.fault]
    bad = [each for each in found if each.fault]
    facts = {"served": {each.browser: not each.fault for each in found}}
    if not bad:
        report.ok("browsers", f"{', '.join(good)} find what they need in SETTINGS", **facts)
        return
    refused = "; ".join(f"{each.browser} is not served: {each.fault}" for each in bad)
    text = f"{', '.join(good)} are served; {refused}" if good else refused
    report.warn("browsers", text, cause="settings.browsers", remedy=UPGRADE, **facts)


def _speaks(handshake: Handshake, draft: str, *, strict: bool) -> bool:
    """What the protocol core of a client makes of the server's offer of one draft alone."""
    settings = handshake.settings or {}
    others = set(DRAFTS.values()) - {DRAFTS[draft]}
    alone = {key: value for key, value in settings.items() if key not in others}
    if not alone.get(DRAFTS[draft]):
        return False
    core = CoreConnection(CoreConfig(is_client=True, strict=strict, grease=False))
    resets = handshake.has_reset_stream_at
    core.handle_connected(
        2, handshake.max_datagram_frame_size, MAX_DATAGRAM_SIZE, resets, resets, 0.0
    )
    frame = frame_encode(H3_FRAME_TYPE_SETTINGS, settings_encode(alone))
    core.handle_stream_data(3, CONTROL_STREAM + frame, False, 0.0)
    return core.dialect == draft


def _lacking(handshake: Handshake, offered: list[str]) -> str:
    settings = handshake.settings or {}
    lacking = []
    if settings.get(SETTINGS_ENABLE_CONNECT_PROTOCOL) != 1 and offered != ["02"]:
        lacking.append("ENABLE_CONNECT_PROTOCOL=1")
    if not handshake.has_reset_stream_at and {"13", "15"} & set(offered):
        lacking.append("the transport parameter reset_stream_at")
    if settings.get(SETTINGS_H3_DATAGRAM) == 1 and not handshake.max_datagram_frame_size:
        lacking.append("the transport parameter max_datagram_frame_size")
    return " and ".join(lacking) or "something that strict clients want"


def _drafts(drafts: list[str]) -> str:
    return f"draft{'s' if len(drafts) > 1 else ''} {', '.join(drafts)}"
