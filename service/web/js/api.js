// Requests to this server with the reader's key, which stays in this tab's session storage.

const STORED = "cage-key";

export class ApiError extends Error {
  constructor(status, title, message) {
    super(message);
    this.status = status;
    this.title = title;
  }
}

const TITLES = {
  401: "This key is not in force.",
  403: "This key may not do that.",
  404: "There is no such thing.",
  429: "Too many requests.",
  503: "The service is not ready.",
};

export const key = {
  get: () => sessionStorage.getItem(STORED) ?? "",
  set: (value) => sessionStorage.setItem(STORED, value),
  forget: () => sessionStorage.removeItem(STORED),
};

async function send(method, path, { body, tenant, signal } = {}) {
  if (/[^\x21-\x7e]/.test(key.get())) {
    throw new ApiError(401, TITLES[401], "A key is one word of letters, digits, - and _; check what was pasted.");
  }
  const headers = { Authorization: `Bearer ${key.get()}` };
  if (tenant) headers["X-Cage-Tenant"] = tenant;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer.", "Is it running? Check the connection, then try again.");
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  let message = `The server answered with status ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // Something in front of the server answered in a form of its own.
  }
  return new ApiError(response.status, TITLES[response.status] ?? "The server refused that.", message);
}

export async function call(method, path, options) {
  const response = await send(method, path, options);
  return response.status === 204 ? null : response.json();
}

export const get = (path, options) => call("GET", path, options);

// Server-sent events of any method, with headers, which EventSource cannot send.
export async function* events(method, path, options) {
  const response = await send(method, path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffered = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      buffered += value;
      const blocks = buffered.split("\n\n");
      buffered = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  const event = { name: "message", data: "" };
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    if (line.startsWith("data: ")) event.data += line.slice(6);
  }
  return event.data ? event : null;
}
