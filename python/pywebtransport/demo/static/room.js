// Who else is here: cursors on the board, words in the chat. All of it is Pub/Sub on one stream.

import { PubSub } from "./pubsub.js";

const CURSOR_INTERVAL = 33; // ms between two places that are told
const HERE_INTERVAL = 4_000; // ms between two signs of life
const GONE_AFTER = 11_000;
const MAX_PEOPLE = 64; // shown; a visitor beyond that is not
const MAX_MESSAGES = 200;
const TRAIL = 900; // ms that a trail lasts
const RIPPLE = 1_100;
const MAX_TRAIL = 240;
const STEP = 0.02; // of the board, for an arrow key
const HUES = 8;

const still = matchMedia("(prefers-reduced-motion: reduce)");
const ADJECTIVES = "Quiet Bright Swift Gentle Curious Amber Lunar Northern Velvet Brisk".split(" ");
const ANIMALS = "Otter Heron Lynx Wren Marten Ibis Badger Finch Hare Osprey".split(" ");
const pick = (list) => list[Math.floor(Math.random() * list.length)];

function savedName() {
  try {
    return sessionStorage.getItem("name");
  } catch {
    return null; // storage is forbidden here
  }
}

const clamp = (value) => Math.min(1, Math.max(0, Number(value) || 0));

export class Room {
  #pubsub = null;
  #people = new Map(); // id -> {name, hue, seen, element, cursor, x, y, toX, toY, trail}
  #ripples = [];
  #told = 0;
  #asked = 0;

  constructor({ board, trails, empty, log, people, form, name, text, trip }) {
    Object.assign(this, { board, trails, empty, log, list: people, text, trip });
    this.me = {
      id: crypto.randomUUID(),
      name: savedName() || `${pick(ADJECTIVES)} ${pick(ANIMALS)}`,
      hue: Math.floor(Math.random() * HUES),
    };
    this.#person(this.me);
    this.#note(`You are ${this.me.name}. Open this page once more, or send its address to somebody.`);
    name.value = this.me.name;
    name.addEventListener("change", () => this.#rename(name));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#rename(name);
      this.#say();
    });
    this.#listenToBoard();
    this.context = trails.getContext("2d");
    new ResizeObserver(() => this.#resize()).observe(board);
    setInterval(() => this.#lookAround(), 1_000);
    setInterval(() => this.#tellHere(), HERE_INTERVAL);
    addEventListener("pagehide", () => this.#publish("people", { gone: true }));
    requestAnimationFrame((now) => this.#draw(now));
  }

  async attach(transport, signal) {
    const pubsub = await PubSub.open(transport);
    signal.addEventListener("abort", () => {
      if (this.#pubsub === pubsub) this.#pubsub = null;
    });
    this.#pubsub = pubsub;
    pubsub.subscribe("demo.*");
    this.#tellHere();
    for await (const { topic, data } of pubsub.messages()) this.#hear(topic, data);
  }

  #publish(topic, data) {
    const { id, name, hue } = this.me;
    this.#pubsub?.publish(`demo.${topic}`, JSON.stringify({ id, name, hue, ...data }));
  }

  #tellHere() {
    this.#publish("people", {});
  }

  // What others send is not trusted: every member is checked, and text stays text.
  #hear(topic, data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    const id = String(message.id).slice(0, 64);
    if (topic === "demo.people" && message.gone) return this.#leave(id);
    const isNew = !this.#people.has(id);
    const person = this.#person({
      id,
      name: String(message.name ?? "").trim().slice(0, 24) || "Somebody",
      hue: Math.floor(Math.abs(Number(message.hue) || 0)) % HUES,
    });
    if (!person) return;
    if (isNew) {
      if (person.hue === this.me.hue && id < this.me.id) this.#changeHue();
      this.#note(`${person.name} is here`);
      if (performance.now() - this.#asked > 300) {
        this.#asked = performance.now();
        this.#tellHere();
      }
    }
    if (topic === "demo.cursor") {
      if (id === this.me.id) this.trip.textContent = `${(performance.now() - message.at).toFixed(1)} ms`;
      else this.#move(person, clamp(message.x), clamp(message.y));
      if (message.ripple) this.#ripple(clamp(message.x), clamp(message.y), person.hue);
    } else if (topic === "demo.chat" && message.text) {
      this.#write(person, String(message.text).slice(0, 280));
    }
  }

  // People.

  #person({ id, name, hue }) {
    let person = this.#people.get(id);
    if (!person) {
      if (this.#people.size >= MAX_PEOPLE) return null;
      const isMe = id === this.me.id;
      const element = document.createElement("li");
      const cursor = document.createElement("div");
      cursor.className = isMe ? "cursor me" : "cursor";
      cursor.innerHTML =
        '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M2 2l6.2 15 2.2-6.2 6.4-2.3z"/></svg><span></span>';
      cursor.hidden = true;
      this.board.append(cursor);
      this.list.append(element);
      person = { id, element, cursor, isMe, x: 0.5, y: 0.5, toX: 0.5, toY: 0.5, trail: [] };
      this.#people.set(id, person);
    }
    person.seen = performance.now();
    if (person.name !== name || person.hue !== hue) {
      Object.assign(person, { name, hue });
      person.element.textContent = person.isMe ? `${name} (you)` : name;
      person.element.title = person.element.textContent;
      person.cursor.lastChild.textContent = person.isMe ? "you" : name;
      person.element.dataset.hue = person.cursor.dataset.hue = hue;
      person.cursor.dataset.name = name;
    }
    return person;
  }

  // Of two of the same colour, one takes another, while there are some.
  #changeHue() {
    const taken = new Set([...this.#people.values()].map(({ hue }) => hue));
    this.me.hue = [...Array(HUES).keys()].find((hue) => !taken.has(hue)) ?? this.me.hue;
    this.#person(this.me);
  }

  #leave(id) {
    const person = this.#people.get(id);
    if (!person || person.isMe) return;
    this.#people.delete(id);
    person.element.remove();
    person.cursor.remove();
    this.#note(`${person.name} has left`);
  }

  #lookAround() {
    const now = performance.now();
    for (const { id, seen } of this.#people.values()) if (now - seen > GONE_AFTER) this.#leave(id);
  }

  #rename(input) {
    const name = input.value.trim().slice(0, 24) || this.me.name;
    input.value = name;
    if (name === this.me.name) return;
    this.me.name = name;
    this.#person(this.me);
    this.#tellHere();
    try {
      sessionStorage.setItem("name", name);
    } catch {
      // it lasts as long as the page
    }
  }

  // Words.

  #say() {
    const text = this.text.value.trim();
    if (!text) return;
    if (!this.#pubsub) return this.#note("Not connected: your message waits in its field");
    this.#publish("chat", { text });
    this.text.value = "";
  }

  #write({ name, hue, isMe }, text) {
    const item = document.createElement("li");
    item.dataset.hue = hue;
    if (isMe) item.className = "mine";
    const who = document.createElement("b");
    who.textContent = name;
    const time = document.createElement("time");
    time.textContent = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const words = document.createElement("p");
    words.textContent = text;
    item.append(who, time, words);
    this.#append(item);
  }

  #note(text) {
    const item = document.createElement("li");
    item.className = "note";
    item.textContent = text;
    this.#append(item);
  }

  #append(item) {
    const { log } = this;
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(item);
    while (log.children.length > MAX_MESSAGES) log.firstChild.remove();
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }

  // The board.

  #listenToBoard() {
    const { board } = this;
    const place = (event) => {
      const box = board.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    board.addEventListener("pointermove", (event) => this.#moveMe(...place(event)));
    board.addEventListener("pointerdown", (event) => this.#moveMe(...place(event), true));
    const steps = {
      ArrowLeft: [-STEP, 0],
      ArrowRight: [STEP, 0],
      ArrowUp: [0, -STEP],
      ArrowDown: [0, STEP],
      " ": [0, 0],
    };
    board.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const { toX, toY } = this.#people.get(this.me.id);
      const far = event.shiftKey ? 4 : 1;
      this.#moveMe(toX + step[0] * far, toY + step[1] * far, event.key === " ");
    });
  }

  #moveMe(x, y, ripple = false) {
    const me = this.#person(this.me);
    this.#move(me, clamp(x), clamp(y));
    const now = performance.now();
    if (!ripple && now - this.#told < CURSOR_INTERVAL) {
      // The last place of a movement is told too, a little later.
      this.#later ??= setTimeout(() => this.#tellPlace(), CURSOR_INTERVAL);
      return;
    }
    if (ripple && !this.#pubsub) this.#ripple(me.toX, me.toY, me.hue);
    this.#tellPlace(ripple);
  }
  #later = null;

  #tellPlace(ripple = false) {
    clearTimeout(this.#later);
    this.#later = null;
    this.#told = performance.now();
    const { toX, toY } = this.#people.get(this.me.id);
    const round = (value) => Math.round(value * 1e4) / 1e4;
    const data = { x: round(toX), y: round(toY), at: this.#told };
    this.#publish("cursor", ripple ? { ...data, ripple } : data);
  }

  #move(person, x, y) {
    if (person.cursor.hidden) {
      person.cursor.hidden = false;
      Object.assign(person, { x, y });
    }
    Object.assign(person, { toX: x, toY: y });
    this.empty.hidden = true;
  }

  #ripple(x, y, hue) {
    this.#ripples.push({ x, y, hue, at: performance.now() });
    if (this.#ripples.length > MAX_PEOPLE) this.#ripples.shift();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.board;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.trails.width = clientWidth * ratio;
    this.trails.height = clientHeight * ratio;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  #draw(now) {
    const { context } = this;
    const { clientWidth: width, clientHeight: height } = this.board;
    const style = getComputedStyle(this.board);
    const color = (hue) => style.getPropertyValue(`--hue-${hue}`).trim();
    context.clearRect(0, 0, width, height);
    context.lineCap = "round";
    for (const person of this.#people.values()) {
      if (person.cursor.hidden) continue;
      const ease = still.matches || person.isMe ? 1 : 0.35;
      person.x += (person.toX - person.x) * ease;
      person.y += (person.toY - person.y) * ease;
      const x = person.x * width;
      const y = person.y * height;
      person.cursor.style.transform = `translate(${x}px, ${y}px)`;
      person.cursor.classList.toggle("flip", x > width - 110);
      if (still.matches) continue;
      const { trail } = person;
      const last = trail.at(-1);
      if (!last || last.x !== x || last.y !== y) trail.push({ x, y, at: now });
      while (trail.length > MAX_TRAIL || now - trail[0]?.at > TRAIL) trail.shift();
      context.strokeStyle = color(person.hue);
      for (let i = 1; i < trail.length; i++) {
        const fresh = 1 - (now - trail[i].at) / TRAIL;
        context.globalAlpha = 0.5 * fresh;
        context.lineWidth = 1 + 4 * fresh;
        context.beginPath();
        context.moveTo(trail[i - 1].x, trail[i - 1].y);
        context.lineTo(trail[i].x, trail[i].y);
        context.stroke();
      }
    }
    this.#ripples = this.#ripples.filter(({ at }) => now - at < RIPPLE);
    for (const { x, y, hue, at } of this.#ripples) {
      const age = Math.max(0, (now - at) / RIPPLE);
      context.strokeStyle = color(hue);
      context.lineWidth = 2;
      for (const delay of still.matches ? [0.6] : [0, 0.18]) {
        const grown = still.matches ? delay : age - delay;
        if (grown < 0) continue;
        context.globalAlpha = still.matches ? 0.8 : (1 - age) * 0.9;
        context.beginPath();
        context.arc(x * width, y * height, 6 + 70 * (1 - (1 - grown) ** 3), 0, 7);
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    requestAnimationFrame((next) => this.#draw(next));
  }
}
