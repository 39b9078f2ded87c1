// The client of pywebtransport's Pub/Sub line protocol (pywebtransport.pubsub.protocol).

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const MAX_MESSAGE = 65_536;

export class PubSub {
  #writer;
  #buffer = new Uint8Array(0);
  #topic = null; // where the next message was published, when it came for a pattern

  static async open(transport) {
    const stream = await transport.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    await writer.write(encoder.encode("room\n"));
    return new PubSub(stream.readable, writer);
  }

  constructor(readable, writer) {
    this.readable = readable;
    this.#writer = writer;
  }

  subscribe(pattern) {
    this.#write(encoder.encode(`SUB ${pattern}\n`));
  }

  publish(topic, data) {
    const body = encoder.encode(data);
    const head = encoder.encode(`PUB ${topic} ${body.length}\n`);
    const both = new Uint8Array(head.length + body.length);
    both.set(head);
    both.set(body, head.length);
    this.#write(both);
  }

  #write(bytes) {
    this.#writer.write(bytes).catch(() => {}); // the end of the session tells
  }

  // {topic, data} of each message until the stream ends.
  async *messages() {
    const reader = this.readable.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const joined = new Uint8Array(this.#buffer.length + value.length);
      joined.set(this.#buffer);
      joined.set(value, this.#buffer.length);
      this.#buffer = joined;
      for (let message; (message = this.#next()) !== undefined; ) if (message) yield message;
      if (this.#buffer.length > MAX_MESSAGE) throw new Error("a message without an end");
    }
  }

  // A message, null for a line that is none, undefined when more bytes are needed.
  #next() {
    const end = this.#buffer.indexOf(10);
    if (end < 0) return undefined;
    const [verb, topic, size] = decoder.decode(this.#buffer.subarray(0, end)).split(" ");
    let used = end + 1;
    let message = null;
    if (verb === "MSG") {
      used += Number(size);
      if (this.#buffer.length < used) return undefined;
      const data = decoder.decode(this.#buffer.subarray(end + 1, used));
      message = { topic: this.#topic ?? topic, data };
      this.#topic = null;
    } else if (verb === "TOPIC") {
      this.#topic = topic;
    }
    this.#buffer = this.#buffer.subarray(used);
    return message;
  }
}
