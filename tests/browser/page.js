// What the browser tests run in the page. Every function opens the sessions it needs on
// `target` (set by the fixture) and returns plain values; the tests compare them.

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function dial(path, options = {}) {
  const value = Uint8Array.from(target.hash.match(/../g), (pair) => parseInt(pair, 16));
  return new WebTransport(target.url + path, {
    serverCertificateHashes: [{ algorithm: "sha-256", value }],
    ...options,
  });
}

async function connect(path, options) {
  const session = dial(path, options);
  await session.ready;
  return session;
}

// A promise's end as a plain value, whichever way it settles.
function outcome(promise) {
  return promise.then(
    (value) => ({ settled: "resolved", value: value === undefined ? null : value }),
    (error) => ({
      settled: "rejected",
      name: error.name,
      source: error.source ?? null,
      code: error.streamErrorCode ?? null,
      message: error.message,
    }),
  );
}

function randomBytes(size) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) {
    crypto.getRandomValues(bytes.subarray(at, Math.min(at + 65536, size)));
  }
  return bytes;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function readAll(readable) {
  const chunks = [];
  let size = 0;
  for await (const chunk of readable) {
    chunks.push(chunk);
    size += chunk.byteLength;
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}

async function writeAll(writable, bytes) {
  const writer = writable.getWriter();
  for (let at = 0; at < bytes.byteLength; at += 65536) {
    await writer.ready;
    writer.write(bytes.subarray(at, at + 65536)).catch(() => {}); // close() reports it
  }
  await writer.close();
}

// `count` streams of `readable`, in order of arrival, each as text or as what `use` makes of it.
async function take(streams, count, use) {
  const reader = streams.getReader();
  const results = [];
  for (let i = 0; i < count; i++) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the streams ended after ${i} of ${count}`);
    results.push(use(value));
  }
  reader.releaseLock();
  return Promise.all(results);
}

async function echo(session, size) {
  const stream = await session.createBidirectionalStream();
  const sent = randomBytes(size);
  const [received] = await Promise.all([
    readAll(stream.readable),
    writeAll(stream.writable, sent),
  ]);
  return {
    sent: await sha256(sent),
    received: await sha256(received),
    bytes: received.byteLength,
  };
}

const scenarios = {
  async bidirectionalEcho({ size }) {
    const session = await connect("/echo");
    const started = performance.now();
    const result = await echo(session, size);
    result.seconds = (performance.now() - started) / 1000;
    session.close();
    return result;
  },

  async concurrentStreams({ count, size }) {
    const session = await connect("/echo");
    const results = await Promise.all(Array.from({ length: count }, () => echo(session, size)));
    session.close();
    return results;
  },

  // The echo of each unidirectional stream comes back on one that the server opens.
  async unidirectionalEcho({ count }) {
    const session = await connect("/echo");
    const texts = Array.from({ length: count }, (_, i) => `stream ${i}`);
    const received = take(session.incomingUnidirectionalStreams, count, async (readable) =>
      decoder.decode(await readAll(readable)),
    );
    for (const text of texts) {
      await writeAll(await session.createUnidirectionalStream(), encoder.encode(text));
    }
    const result = { sent: texts, received: await received };
    session.close();
    return result;
  },

  async serverStreams({ count }) {
    const session = await connect("/streams");
    const [bidirectional, unidirectional] = await Promise.all([
      take(session.incomingBidirectionalStreams, count, async ({ readable, writable }) => {
        const text = decoder.decode(await readAll(readable));
        await writeAll(writable, encoder.encode(`answer to ${text}`));
        return text;
      }),
      take(session.incomingUnidirectionalStreams, count, async (readable) =>
        decoder.decode(await readAll(readable)),
      ),
    ]);
    const closed = await outcome(session.closed); // the server closes when it has the answers
    return { bidirectional, unidirectional, closed };
  },

  async datagramEcho({ count, size }) {
    const session = await connect("/echo");
    const writer = (
      session.datagrams.createWritable?.() ?? session.datagrams.writable
    ).getWriter();
    const reader = session.datagrams.readable.getReader();
    const times = [];
    let equal = 0;
    for (let i = 0; i < count; i++) {
      const sent = randomBytes(size);
      const started = performance.now();
      await writer.write(sent);
      const { value } = await reader.read();
      times.push(performance.now() - started);
      if ((await sha256(value)) === (await sha256(sent))) equal += 1;
    }
    const maxDatagramSize = session.datagrams.maxDatagramSize;
    session.close();
    times.sort((a, b) => a - b);
    return { equal, maxDatagramSize, median: times[times.length >> 1] };
  },

  // The page aborts its sending side, and cancels its reading side, of one stream each.
  async resetByPage({ resetCode, stopCode }) {
    const session = await connect("/observe/2");
    const reset = await session.createBidirectionalStream();
    const writer = reset.writable.getWriter();
    await writer.write(encoder.encode("reset me"));
    await reset.readable.getReader().read(); // the server has seen the stream
    await writer.abort(new WebTransportError({ message: "abort", streamErrorCode: resetCode }));

    const stopped = await session.createBidirectionalStream();
    await stopped.writable.getWriter().write(encoder.encode("stop me"));
    const reader = stopped.readable.getReader();
    await reader.read();
    await reader.cancel(new WebTransportError({ message: "cancel", streamErrorCode: stopCode }));
    return outcome(session.closed); // the server closes when it has seen both
  },

  async resetByServer() {
    const session = await connect("/reset");
    const stream = await session.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    await writer.write(encoder.encode("hello"));
    const reader = stream.readable.getReader();
    await reader.read();
    await writer.write(encoder.encode("now"));
    const result = await outcome(reader.read());
    session.close();
    return result;
  },

  async stopByServer() {
    const session = await connect("/stop");
    const stream = await session.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    await writer.write(encoder.encode("hello"));
    const result = await outcome(writer.closed);
    session.close();
    return result;
  },

  async closeByPage({ code, reason }) {
    const session = await connect("/echo");
    session.close({ closeCode: code, reason });
    return outcome(session.closed.then(({ closeCode, reason }) => ({ closeCode, reason })));
  },

  async closeByServer({ path }) {
    const session = await connect(path);
    if (path === "/close-later") {
      const stream = await session.createBidirectionalStream();
      await stream.writable.getWriter().write(encoder.encode("close now"));
    }
    return outcome(session.closed.then(({ closeCode, reason }) => ({ closeCode, reason })));
  },

  async rejected({ path }) {
    const session = dial(path);
    const [ready, closed] = await Promise.all([outcome(session.ready), outcome(session.closed)]);
    return { ready, closed };
  },

  async twoSessions() {
    const sessions = await Promise.all([connect("/echo"), connect("/echo")]);
    const results = await Promise.all(sessions.map((session) => echo(session, 100_000)));
    for (const session of sessions) session.close();
    return results;
  },

  async protocol({ path, protocols }) {
    const session = await connect(path, { protocols });
    const { protocol } = session;
    session.close();
    return protocol;
  },

  async sessionsInARow({ count }) {
    const times = [];
    for (let i = 0; i < count; i++) {
      const started = performance.now();
      const session = await connect("/echo");
      times.push(performance.now() - started);
      const { sent, received } = await echo(session, 1000);
      if (sent !== received) throw new Error(`session ${i}: the echo differs`);
      session.close({ closeCode: i, reason: `session ${i}` });
      await session.closed;
    }
    return times;
  },
};
