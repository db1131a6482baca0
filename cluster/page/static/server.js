/** Talk to the server: an answer, or an Error whose message is for people and whose status is 401 for want of a key. */

import { keyHeaders } from "./key.js";
import { bodyOf } from "./request.js";

async function fetchJson(path, init = {}) {
  let response;
  try {
    response = await fetch(path, { ...init, headers: { ...init.headers, ...keyHeaders() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Does it still run, and are you online?");
  }
  const body = await response.json().catch(() => null); // a proxy's error page is no JSON
  if (response.ok && body) return body;
  if (response.ok) throw new Error("The answer broke off on its way; please search again.");
  const message = body?.error?.message ?? `The server answered ${response.status} ${response.statusText}.`;
  throw Object.assign(new Error(message), { status: response.status });
}

/** Collections, their components and sizes. */
export const readCollections = () => fetchJson("/v1/collections");

/** The OpenAPI document. */
export const readDocument = () => fetchJson("/openapi.json");

/** Send a request as `requestOf` makes it; the browser says of which type its body is. */
export const search = (request, signal) => fetchJson(request.path, { method: "POST", body: bodyOf(request), signal });
