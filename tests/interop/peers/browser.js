// A browser's page as an end: `run(op, arguments)` does what the operations of end.py say.

const CHUNK = 65536;
const sessions = new Map();
const streams = new Map();
let number = 0;

// WebTransportError's streamErrorCode; null where the browser does not tell.
function code(error) {
  return error?.streamErrorCode ?? null;
}

function failure(streamErrorCode) {
  return new WebTransportError({ message: "as the check says", streamErrorCode });
}

class Stream {
  constructor(readable, writable) {
    this.reader = readable?.getReader();
    this.writer = writable?.getWriter();
    this.writer?.closed.catch(() => {}); // `stopped` asks for it
  }

  async send(bytes) {
    for (let at = 0; at < bytes.byteLength; at += CHUNK) {
      await this.writer.ready;
      this.writer.write(bytes.subarray(at, at + CHUNK)).catch(() => {}); // close() reports it
    }
    await this.writer.close();
  }

  async readAll() {
    const chunks = [];
    for (;;) {
      const { value, done } = await this.reader.read();
      if (done) return new Uint8Array(await new Blob(chunks).arrayBuffer());
      chunks.push(value);
    }
  }
}

class Session {
  constructor(transport) {
    this.transport = transport;
    this.incoming = {
      false: transport.incomingBidirectionalStreams.getReader(),
      true: transport.incomingUnidirectionalStreams.getReader(),
    };
    this.datagrams = {
      reader: transport.datagrams.readable.getReader(),
      writer: (transport.datagrams.createWritable?.() ?? transport.datagrams.writable).getWriter(),
    };
  }

  async open(unidirectional) {
    if (unidirectional) {
      return new Stream(null, await this.transport.createUnidirectionalStream());
    }
    const { readable, writable } = await this.transport.createBidirectionalStream();
    return new Stream(readable, writable);
  }

  async accept(unidirectional) {
    const { value, done } = await this.incoming[Boolean(unidirectional)].read();
    if (done) throw new Error("the session has ended");
    return unidirectional ? new Stream(value, null) : new Stream(value.readable, value.writable);
  }
}

function randomBytes(size) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += CHUNK) {
    crypto.getRandomValues(bytes.subarray(at, Math.min(at + CHUNK, size)));
  }
  return bytes;
}

async function digest(bytes) {
  const hash = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function keep(map, value) {
  map.set(++number, value);
  return number;
}

async function forEach(session, unidirectional, use) {
  for (;;) {
    const stream = await session.accept(unidirectional);
    use(stream).catch(() => {});
  }
}

const operations = {
  async connect({ url, protocols = [], sha256 }) {
    const value = Uint8Array.from(sha256.match(/../g), (pair) => parseInt(pair, 16));
    const transport = new WebTransport(url, {
      serverCertificateHashes: [{ algorithm: "sha-256", value }],
      ...(protocols.length && { protocols }),
    });
    transport.closed.catch(() => {});
    try {
      await transport.ready;
    } catch {
      return { status: null }; // which a page is not told
    }
    const session = keep(sessions, new Session(transport));
    return { session, protocol: transport.protocol || null };
  },

  async echo({ session }) {
    const it = sessions.get(session);
    forEach(it, false, async (stream) => {
      for (;;) {
        const { value, done } = await stream.reader.read();
        if (done) return stream.writer.close();
        await stream.writer.write(value);
      }
    }).catch(() => {});
    forEach(it, true, async (stream) => {
      const bytes = await stream.readAll();
      await (await it.open(true)).send(bytes);
    }).catch(() => {});
    (async () => {
      for (;;) {
        const { value, done } = await it.datagrams.reader.read();
        if (done) return;
        await it.datagrams.writer.write(value);
      }
    })().catch(() => {});
    return {};
  },

  async exchange({ session, unidirectional, count, size }) {
    const it = sessions.get(session);
    const sent = Array.from({ length: count }, () => randomBytes(size));
    const echoes = sent.map(async (bytes) => {
      const stream = await it.open(unidirectional);
      if (unidirectional) {
        stream.send(bytes);
        return (await it.accept(true)).readAll();
      }
      const [echo] = await Promise.all([stream.readAll(), stream.send(bytes)]);
      return echo;
    });
    const received = new Set(await Promise.all((await Promise.all(echoes)).map(digest)));
    const wanted = await Promise.all(sent.map(digest));
    return { equal: wanted.filter((each) => received.has(each)).length };
  },

  async datagrams({ session, count, size }) {
    const { reader, writer } = sessions.get(session).datagrams;
    let equal = 0;
    for (let i = 0; i < count; i++) {
      const sent = randomBytes(size);
      await writer.write(sent);
      const { value } = await reader.read();
      equal += (await digest(value)) === (await digest(sent)) ? 1 : 0;
    }
    return { equal };
  },

  async open({ session, unidirectional = false }) {
    const stream = await sessions.get(session).open(unidirectional);
    await stream.writer.write(new TextEncoder().encode("hello"));
    return { stream: keep(streams, stream) };
  },

  async take({ session, unidirectional = false }) {
    const stream = await sessions.get(session).accept(unidirectional);
    const { value } = await stream.reader.read();
    return { stream: keep(streams, stream), text: new TextDecoder().decode(value) };
  },

  async finish({ stream }) {
    await streams.get(stream).writer.close();
    return { text: new TextDecoder().decode(await streams.get(stream).readAll()) };
  },

  async reset({ stream, code }) {
    await streams.get(stream).writer.abort(failure(code));
    return {};
  },

  async stop({ stream, code }) {
    await streams.get(stream).reader.cancel(failure(code));
    return {};
  },

  async ended({ stream }) {
    try {
      await streams.get(stream).readAll();
    } catch (error) {
      return { reset: code(error) };
    }
    return { fin: true };
  },

  async stopped({ stream }) {
    try {
      await streams.get(stream).writer.closed;
    } catch (error) {
      return { stop: code(error) };
    }
    return { stop: "not stopped" };
  },

  async close({ session, code, reason }) {
    sessions.get(session).transport.close({ closeCode: code, reason });
    return {};
  },

  async closed({ session }) {
    const { closeCode, reason } = await sessions.get(session).transport.closed;
    return { code: closeCode, reason };
  },
};

// As JSON text: what every way into a browser carries.
async function run(op, values) {
  try {
    return JSON.stringify({ ok: await operations[op](values) });
  } catch (error) {
    return JSON.stringify({ error: `${error.name}: ${error.message}` });
  }
}
