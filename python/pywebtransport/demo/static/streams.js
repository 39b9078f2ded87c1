// Throughput: a stream down, a stream up, and the bytes that each has carried.

import { lines } from "./link.js";

const GENTLE = 5_000_000; // bytes a second, each way
const CHUNK = 65_536;
const PIECE_INTERVAL = 40; // ms between the pieces of a gentle stream

const encoder = new TextEncoder();

async function open(transport, purpose) {
  const stream = await transport.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  await writer.write(encoder.encode(`${purpose}\n`));
  return { readable: stream.readable, writer };
}

// Where the browser can, it reads into one buffer over and over again.
function chunksOf(readable) {
  try {
    const reader = readable.getReader({ mode: "byob" });
    let buffer = new ArrayBuffer(4 * CHUNK);
    return {
      cancel: () => reader.cancel(),
      async read() {
        const { value, done } = await reader.read(new Uint8Array(buffer));
        if (value) buffer = value.buffer;
        return done ? 0 : value.byteLength;
      },
    };
  } catch {
    const reader = readable.getReader();
    return {
      cancel: () => reader.cancel(),
      async read() {
        const { value, done } = await reader.read();
        return done ? 0 : value.byteLength;
      },
    };
  }
}

// Streams at full speed would leave the page no time for anything else.
const BUSY = 8; // ms
const { port1, port2 } = new MessageChannel();
const waiting = [];
port1.onmessage = () => waiting.shift()();
let rested = 0;
async function rest() {
  if (performance.now() - rested < BUSY) return;
  await new Promise((resolve) => {
    waiting.push(resolve);
    port2.postMessage(null);
  });
  rested = performance.now();
}

export class Streams {
  down = 0; // bytes that came
  up = 0; // bytes that the server has counted
  #pace = "gentle";
  #transport = null;
  #current = new AbortController();

  attach(transport, signal) {
    this.#transport = transport;
    signal.addEventListener("abort", () => {
      if (this.#transport === transport) this.#transport = null;
      this.#restart();
    });
    this.#restart();
  }

  set pace(pace) {
    this.#pace = pace;
    this.#restart();
  }

  // A tab that nobody sees shall not load the machine.
  set isHidden(hidden) {
    this.#isHidden = hidden;
    this.#restart();
  }
  #isHidden = false;

  #restart() {
    this.#current.abort();
    this.#current = new AbortController();
    if (!this.#transport || this.#pace === "off" || this.#isHidden) return;
    const rate = this.#pace === "full" ? 0 : GENTLE;
    const { signal } = this.#current;
    // A session that ends takes its streams with it: that is not worth a word.
    this.#receive(this.#transport, rate, signal).catch(() => {});
    this.#send(this.#transport, rate, signal).catch(() => {});
  }

  async #receive(transport, rate, signal) {
    const { readable, writer } = await open(transport, `down ${rate}`);
    writer.close().catch(() => {});
    const chunks = chunksOf(readable);
    signal.addEventListener("abort", () => chunks.cancel().catch(() => {}));
    if (signal.aborted) return chunks.cancel();
    for (let size; (size = await chunks.read()); ) {
      this.down += size;
      await rest();
    }
  }

  async #send(transport, rate, signal) {
    const { readable, writer } = await open(transport, "up");
    this.#count(readable).catch(() => {});
    signal.addEventListener("abort", () => writer.abort().catch(() => {}));
    const chunk = crypto.getRandomValues(new Uint8Array(CHUNK));
    let then = performance.now();
    while (!signal.aborted) {
      if (!rate) {
        await writer.ready;
        writer.write(chunk).catch(() => {});
        await rest();
        continue;
      }
      await new Promise((resolve) => setTimeout(resolve, PIECE_INTERVAL));
      const now = performance.now();
      let due = Math.min(((now - then) / 1000) * rate, 8 * CHUNK);
      then = now;
      for (; due >= 1; due -= CHUNK) {
        await writer.ready;
        writer.write(due < CHUNK ? chunk.subarray(0, due) : chunk).catch(() => {});
      }
    }
  }

  async #count(readable) {
    let last = 0;
    for await (const line of lines(readable)) {
      this.up += Number(line) - last;
      last = Number(line);
    }
  }
}
