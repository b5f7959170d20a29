// Requests to the server that this page came from. Every request has the token, where the server wants one, and every
// request that changes something has a header that a form of another page cannot send.

const TOKEN = "regraft-token";
const PICTURES = 600; // pictures that are kept; older ones are fetched again when they are wanted

export class Refusal extends Error {
  // A request that was not answered as wanted. `status` is the HTTP status; 0 where the server cannot be reached.
  constructor(status, message, headers) {
    super(message);
    this.status = status;
    this.wait = Number(headers && headers.get("retry-after")) || 1; // seconds until the request may be sent again
  }
}

export function keepToken(token) {
  if (token) sessionStorage.setItem(TOKEN, token);
  else sessionStorage.removeItem(TOKEN);
}

export function takeTokenFromAddress() {
  // The token stands behind the # of the address, so that no request and no log has it. It is taken out of the address.
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return;
  try {
    keepToken(decodeURIComponent(found[1]));
  } catch { // a % that stands for itself
    keepToken(found[1]);
  }
  history.replaceState(null, "", location.pathname);
}

export function query(values) {
  // Return "?name=value&..." without the names whose value is null or undefined.
  const given = Object.entries(values || {}).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? "?" + new URLSearchParams(given) : "";
}

// Return a text as a header can have it: its bytes in UTF-8, without control characters.
const asHeader = (text) => String.fromCharCode(...new TextEncoder().encode(text.replace(/[\x00-\x1f\x7f]/g, "")));

async function send(path, options) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.set("Authorization", "Bearer " + asHeader(token));
  if (options.method) headers.set("X-Regraft", "1");
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: options.cache || "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, say("server_gone"));
  }
  if (!response.ok) throw new Refusal(response.status, await reasonOf(response), response.headers);
  return response;
}

async function reasonOf(response) {
  // Return why a request was refused: in the user's language where the page knows the code of the refusal.
  try {
    const { error, code, values } = await response.json();
    if (code && "refused_" + code in words[state.language]) return say("refused_" + code, values);
    return error || response.statusText;
  } catch {
    return response.statusText || String(response.status);
  }
}

// Return the JSON answer to a GET. Raises Refusal.
export const get = async (path, values, options = {}) => (await send(path + query(values), options)).json();

// Return the JSON answer to a POST. `body` is a Blob, or a value that is sent as JSON. Raises Refusal.
export async function post(path, values, body, options = {}) {
  const isBlob = body instanceof Blob;
  const headers = { "Content-Type": isBlob ? "application/octet-stream" : "application/json" };
  const sent = isBlob ? body : JSON.stringify(body === undefined ? {} : body);
  return (await send(path + query(values), { ...options, method: "POST", headers, body: sent })).json();
}

const pictures = new Map();

export function pictureOf(path) {
  // Return a promise of an address for <img>: an <img> cannot send the token, so that the picture is fetched here.
  if (!pictures.has(path)) {
    const found = send(path, { cache: "default" }).then((response) => response.blob()).then((blob) => URL.createObjectURL(blob));
    found.catch(() => pictures.delete(path));
    pictures.set(path, found);
    if (pictures.size > PICTURES) {
      const [oldest, address] = pictures.entries().next().value;
      pictures.delete(oldest);
      address.then(URL.revokeObjectURL, () => null);
    }
  }
  return pictures.get(path);
}

export function image(path, text) {
  // Return an <img> that shows a picture of the server as soon as it is there.
  const element = make("img", { alt: text, decoding: "async" });
  pictureOf(path).then((address) => { element.src = address; }, () => element.classList.add("missing"));
  return element;
}
