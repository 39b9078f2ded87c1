// Round trips: numbered datagrams that the server sends back, or drops when it is asked to.
// A datagram is [percent to drop: 1 byte][number: 4 bytes].

const SIZE = 5;
const LOST_AFTER = 2_500; // ms
const QUEUE = 64; // datagrams that the browser may hold
const HISTORY = 6_000; // round trips kept: 30 s at 200 a second

export class Datagrams {
  trips = []; // {at, ms}; ms is null for one that was lost
  sent = 0;
  lost = 0;
  rate = 50;
  drop = 0;
  #waiting = new Map(); // number -> time of sending, in order
  #number = 0;

  attach(transport, signal, heard) {
    this.#waiting.clear();
    // By default a browser keeps one for a page that is busy, and drops the others.
    transport.datagrams.incomingHighWaterMark = QUEUE;
    const writable = transport.datagrams.createWritable?.() ?? transport.datagrams.writable;
    const writer = writable.getWriter();
    const reader = transport.datagrams.readable.getReader();
    this.#send(writer, signal).catch(() => {});
    this.#receive(reader, heard).catch(() => {});
  }

  async #send(writer, signal) {
    let due = performance.now();
    while (!signal.aborted) {
      // Timers are coarse: what is due by now goes out together. But no backlog, and nothing waits
      // in the page, or it would measure its own queue.
      const now = performance.now();
      if (now - due > 250) due = now;
      for (; due <= now; due += 1000 / this.rate) {
        await writer.ready;
        const datagram = new DataView(new ArrayBuffer(SIZE));
        datagram.setUint8(0, this.drop);
        datagram.setUint32(1, ++this.#number);
        this.sent++;
        this.#waiting.set(this.#number, performance.now());
        writer.write(new Uint8Array(datagram.buffer)).catch(() => {});
      }
      this.#giveUp(now);
      await new Promise((resolve) => setTimeout(resolve, Math.max(4, due - performance.now())));
    }
    this.#waiting.clear();
  }

  async #receive(reader, heard) {
    for (;;) {
      const { value, done } = await reader.read();
      const now = performance.now();
      if (done) return;
      heard();
      if (value.byteLength !== SIZE) continue;
      const number = new DataView(value.buffer, value.byteOffset, SIZE).getUint32(1);
      const began = this.#waiting.get(number);
      if (began === undefined) continue;
      this.#waiting.delete(number);
      this.#keep({ at: now, ms: now - began });
    }
  }

  #giveUp(now) {
    for (const [number, began] of this.#waiting) {
      if (now - began < LOST_AFTER) break;
      this.#waiting.delete(number);
      this.lost++;
      this.#keep({ at: now, ms: null });
    }
  }

  #keep(trip) {
    this.trips.push(trip);
    if (this.trips.length > HISTORY) this.trips.splice(0, HISTORY / 10);
  }

  // Of the last `span` ms: median, 99th percentile, and the share lost.
  summary(span) {
    const since = performance.now() - span;
    const recent = this.trips.filter((trip) => trip.at >= since);
    const times = recent.filter((trip) => trip.ms !== null).map((trip) => trip.ms);
    times.sort((a, b) => a - b);
    const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))];
    return {
      median: at(0.5),
      high: at(0.99),
      loss: recent.length ? 1 - times.length / recent.length : 0,
    };
  }
}
