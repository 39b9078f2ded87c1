// What the pages share: a session with the server that this page came from, and lines of text.

export const encoder = new TextEncoder();

export async function connect(path) {
  if (!("WebTransport" in window)) throw new Error("This browser has no WebTransport");
  const { certificateHash } = await (await fetch("settings.json")).json();
  const value = Uint8Array.from(certificateHash.match(/../g), (pair) => parseInt(pair, 16));
  const transport = new WebTransport(`https://${location.host}${path}`, {
    serverCertificateHashes: [{ algorithm: "sha-256", value }],
  });
  transport.closed.then(
    () => (document.title = "closed"),
    () => (document.title = "lost"),
  );
  await transport.ready;
  return transport;
}

// Lines until the end of the stream, or of the session: the title tells of that.
export async function* lines(readable) {
  const decoder = new TextDecoder();
  const reader = readable.getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

// A line at the end of the list `#log`, which keeps the last hundred.
export function show(text) {
  const log = document.getElementById("log");
  const item = document.createElement("li");
  item.textContent = text;
  log.append(item);
  while (log.children.length > 100) log.firstChild.remove();
  item.scrollIntoView({ block: "nearest" });
}
