// The session's figures side by side: what Python counts, and what the browser tells.

import { lines } from "./link.js";

const number = new Intl.NumberFormat("en");
const count = (value) => number.format(value);
const ms = (value) => `${value.toFixed(2)} ms`;

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; value >= 1000 && i < units.length - 1; i++) value /= 1000;
  return `${value.toFixed(i ? (value < 10 ? 2 : 1) : 0)} ${units[i]}`;
}

export function bitrate(bitsPerSecond) {
  if (bitsPerSecond >= 1e9) return [(bitsPerSecond / 1e9).toFixed(2), "Gbit/s"];
  const mega = bitsPerSecond / 1e6;
  return [mega.toFixed(mega < 100 ? 1 : 0), "Mbit/s"];
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  return `${Math.floor(whole / 60)}:${two(whole % 60)}`;
}

// Title, from Python's figures, from getStats(); seconds there, milliseconds in W3C's.
const ROWS = [
  ["Smoothed round trip", (s) => ms(s.smoothed_rtt * 1e3), (b) => ms(b.smoothedRtt)],
  ["Shortest round trip", (s) => s.min_rtt !== null && ms(s.min_rtt * 1e3), (b) => ms(b.minRtt)],
  [
    "Rate it could send at",
    (s) => s.estimated_send_rate !== null && bitrate(s.estimated_send_rate).join(" "),
    (b) => typeof b.estimatedSendRate === "number" && bitrate(b.estimatedSendRate).join(" "),
  ],
  ["Bytes sent", (s) => bytes(s.bytes_sent), (b) => bytes(b.bytesSent)],
  ["Bytes received", (s) => bytes(s.bytes_received), (b) => bytes(b.bytesReceived)],
  ["Packets sent", (s) => count(s.packets_sent), (b) => count(b.packetsSent)],
  ["Packets received", (s) => count(s.packets_received), (b) => count(b.packetsReceived)],
  ["Packets lost", (s) => count(s.packets_lost), (b) => count(b.packetsLost)],
  [
    "Datagrams dropped here",
    (s) => count(s.datagrams.dropped_incoming),
    (b) => count(b.datagrams.droppedIncoming),
  ],
  [
    "Datagrams lost on the way",
    (s) => count(s.datagrams.lost_outgoing),
    (b) => count(b.datagrams.lostOutgoing),
  ],
  ["Bytes lost", (s) => bytes(s.bytes_lost), (b) => bytes(b.bytesLost)],
  ["Session lasts", (s) => duration(s.uptime), () => ""],
];

export class Figures {
  onvisitors = () => {};
  #cells;
  #place;

  // Rows are spread over the bodies of `tables` in equal parts.
  constructor(place, tables) {
    this.#place = place;
    const part = Math.ceil(ROWS.length / tables.length);
    this.#cells = ROWS.map(([title], i) => {
      const row = tables[Math.floor(i / part)].tBodies[0].insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = title;
      row.append(head);
      return [row.insertCell(), row.insertCell()];
    });
  }

  async attach(transport, heard) {
    const reader = transport.incomingUnidirectionalStreams.getReader();
    const { value: stream } = await reader.read();
    for await (const line of lines(stream)) {
      heard();
      const ours = JSON.parse(line);
      this.onvisitors(ours.visitors);
      const theirs = await browserFigures(transport);
      this.#place.classList.toggle("one-sided", !theirs);
      ROWS.forEach(([, fromOurs, fromTheirs], i) => {
        this.#cells[i][0].textContent = fromOurs(ours) || "–";
        this.#cells[i][1].textContent = theirs ? told(fromTheirs, theirs) : "–";
      });
    }
  }
}

// Chromium has getStats() behind a flag, Firefox one that is not implemented.
async function browserFigures(transport) {
  try {
    return (await transport.getStats?.()) ?? null;
  } catch {
    return null;
  }
}

// A browser may leave any member out.
function told(from, figures) {
  try {
    const text = from(figures);
    return text && !text.includes("NaN") ? text : "–";
  } catch {
    return "–";
  }
}
