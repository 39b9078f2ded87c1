// The session with the server: opened, watched, and opened anew when it is lost.

const HANDSHAKE_LIMIT = 10_000;
const SILENCE_LIMIT = 6_000; // the server sends figures every second
const FIRST_DELAY = 500;
const LAST_DELAY = 8_000;

export const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

const within = (promise, ms, what) =>
  Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error(what)), ms)),
  ]);

export class Link extends EventTarget {
  // Emits "state" ({state, text, delay}) and "open" ({transport, settings, handshake, signal});
  // the signal is aborted when that session has ended.
  #delay = FIRST_DELAY;
  #heard = 0;
  #hurry = new AbortController();

  // What came from the server, whatever it is, shows that it lives.
  heard() {
    this.#heard = performance.now();
  }

  retry() {
    this.#hurry.abort();
  }

  async run() {
    addEventListener("online", () => this.retry());
    for (;;) {
      this.#tell("connecting", "Connecting");
      let why;
      try {
        why = await this.#once();
      } catch (error) {
        why = error.message || String(error);
      }
      this.#hurry = new AbortController();
      this.#tell("waiting", why, this.#delay);
      await sleep(this.#delay, this.#hurry.signal);
      this.#delay = Math.min(this.#delay * 2, LAST_DELAY);
    }
  }

  // One session from its beginning to its end; why it ended.
  async #once() {
    // A restarted server has a new certificate. And browsers make a page wait longer and longer
    // after each failed handshake, so none is tried while the server does not even serve pages.
    let settings;
    try {
      const options = { cache: "no-store", signal: AbortSignal.timeout(5_000) };
      settings = await (await fetch("settings.json", options)).json();
    } catch {
      return "The server is away";
    }
    const began = performance.now();
    const value = Uint8Array.from(settings.certificateHash.match(/../g), (x) => parseInt(x, 16));
    const transport = new WebTransport(`https://${location.host}${settings.path}`, {
      serverCertificateHashes: [{ algorithm: "sha-256", value }],
    });
    transport.closed.catch(() => {}); // told below
    try {
      await within(transport.ready, HANDSHAKE_LIMIT, "No answer over UDP");
    } catch (error) {
      transport.close();
      throw error;
    }
    const handshake = performance.now() - began;
    this.#delay = FIRST_DELAY;
    this.heard();
    const ended = new AbortController();
    const watch = setInterval(() => {
      if (performance.now() - this.#heard > SILENCE_LIMIT) transport.close();
    }, 1_000);
    this.#tell("open", "Connected");
    const detail = { transport, settings, handshake, signal: ended.signal };
    this.dispatchEvent(new CustomEvent("open", { detail }));
    try {
      const { reason } = await transport.closed;
      return reason === "server shutdown" ? "The server has ended" : "The session has ended";
    } catch {
      return "The connection was lost";
    } finally {
      clearInterval(watch);
      ended.abort();
    }
  }

  #tell(state, text, delay = 0) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, text, delay } }));
  }
}

// Lines of text of a readable stream.
export async function* lines(readable) {
  const decoder = new TextDecoder();
  const reader = readable.getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = parts.pop();
    if (rest.length > 65_536) throw new Error("a line without an end");
    yield* parts;
  }
}
