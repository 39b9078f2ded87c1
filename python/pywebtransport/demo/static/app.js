// The page: each part gets the session when there is one, and shows what it measures.

import { Datagrams } from "./datagrams.js";
import { bitrate, bytes, Figures } from "./figures.js";
import { Link } from "./link.js";
import { Area, Scatter } from "./plot.js";
import { Room } from "./room.js";
import { Streams } from "./streams.js";

const SAMPLE = 250; // ms between two points of the throughput
const WINDOW = 3; // samples that a rate is the mean of
const SPAN = 30_000;
const TRIP_SPAN = 15_000;

const at = (id) => document.getElementById(id);
const set = (id, text) => {
  if (at(id).textContent !== text) at(id).textContent = text;
};
const chosen = (name, use) => {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) {
    input.addEventListener("change", () => use(input.value));
    if (input.checked) use(input.value); // a reloaded page keeps its choices
  }
};

// Light and dark.

const dark = matchMedia("(prefers-color-scheme: dark)");
at("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  root.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // it lasts as long as the page
  }
});

// Throughput.

const streams = new Streams();
const format = (value) => bitrate(value).join(" ");
const options = { span: SPAN, least: 1e6, format };
const gauges = ["down", "up"].map((way) => ({
  way,
  plot: new Area(at(`${way}-plot`), { ...options, color: `--${way}` }),
  samples: [], // {at, total}, the newest last
  peak: 0,
}));

setInterval(() => {
  for (const gauge of gauges) {
    const { way, plot, samples } = gauge;
    const total = streams[way];
    samples.push({ at: performance.now(), total });
    if (samples.length > WINDOW + 1) samples.shift();
    const [first] = samples;
    const seconds = (samples.at(-1).at - first.at) / 1000;
    const rate = seconds ? ((total - first.total) * 8) / seconds : 0;
    gauge.peak = Math.max(gauge.peak, rate);
    plot.add(rate);
    const [figure, unit] = bitrate(rate);
    set(`${way}-rate`, figure);
    set(`${way}-unit`, unit);
    set(`${way}-peak`, format(gauge.peak));
    set(`${way}-total`, bytes(total));
  }
}, SAMPLE);
chosen("pace", (pace) => (streams.pace = pace));
document.addEventListener("visibilitychange", () => (streams.isHidden = document.hidden));

// Datagrams.

const datagrams = new Datagrams();
new Scatter(at("rtt-plot"), {
  span: TRIP_SPAN,
  least: 0.5,
  color: "--trip",
  format: (value) => `${Number(value.toPrecision(3))} ms`,
  trips: datagrams.trips,
});
chosen("ping", (rate) => (datagrams.rate = Number(rate)));
chosen("drop", (percent) => (datagrams.drop = Number(percent)));
setInterval(() => {
  const { median, high, loss } = datagrams.summary(TRIP_SPAN);
  const text = (value) => (value === undefined ? "–" : value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0));
  set("rtt-median", text(median));
  set("rtt-high", text(high));
  set("loss", (loss * 100).toFixed(1));
  set("lost-count", datagrams.lost.toLocaleString("en"));
  set("sent-count", datagrams.sent.toLocaleString("en"));
}, 500);

// Room and figures.

const room = new Room({
  board: at("board"),
  trails: at("trails"),
  empty: at("board-empty"),
  log: at("log"),
  people: at("people"),
  form: at("say"),
  name: at("name"),
  text: at("text"),
  trip: at("room-trip"),
});
const figures = new Figures(at("session"), document.querySelectorAll("#session table"));
figures.onvisitors = (visitors) => set("fact-visitors", String(visitors));

// The link.

function notice(title, text) {
  at("notice-title").textContent = title;
  at("notice-text").textContent = text;
  at("notice").hidden = false;
  at("grid").classList.add("absent");
}

const link = new Link();
let countdown;
link.addEventListener("state", ({ detail: { state, text, delay } }) => {
  clearInterval(countdown);
  at("status").dataset.state = state;
  at("retry").hidden = state !== "waiting";
  set("status-text", text);
  if (state !== "waiting") return;
  const until = performance.now() + delay;
  const tell = () => {
    const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    set("status-text", left ? `${text}, again in ${left} s` : text);
  };
  tell();
  countdown = setInterval(tell, 500);
});
link.addEventListener("open", ({ detail: { transport, settings, handshake, signal } }) => {
  set("fact-handshake", `${handshake.toFixed(1)} ms`);
  set("fact-engine", settings.engine);
  set("fact-address", location.host);
  set("version", settings.version);
  const heard = () => link.heard();
  // The end of the session ends them all, and the link tells of it.
  streams.attach(transport, signal);
  datagrams.attach(transport, signal, heard);
  room.attach(transport, signal).catch(() => {});
  figures.attach(transport, heard).catch(() => {});
});
at("retry").addEventListener("click", () => link.retry());

if ("WebTransport" in window) {
  link.run();
} else {
  at("status").dataset.state = "unsupported";
  set("status-text", "No WebTransport here");
  if (isSecureContext) {
    notice(
      "This browser has no WebTransport",
      "Chrome and Edge have it from version 97 on, Firefox from 114. Open this page in one of them.",
    );
  } else {
    notice(
      "This page is not a secure context",
      "Browsers have WebTransport on pages of https and of http://localhost only. Open it by one of these.",
    );
  }
}
