/** A search request: from the form to the address bar, to the body that is sent, and to what people read of it. */

import { currentKey } from "./key.js";

/** What stands for the photo as long as there is none. */
export const NO_PHOTO = { name: "photo.jpg", type: "image/jpeg" };

const isCheckbox = (field) => field.type === "checkbox";
const textOf = (field) => (isCheckbox(field) ? String(field.checked) : field.value);
const defaultTextOf = (field) => {
  if (isCheckbox(field)) return String(field.defaultChecked);
  return field instanceof HTMLSelectElement ? (field.options[0]?.value ?? "") : field.defaultValue;
};
const isChanged = (field) => textOf(field) !== defaultTextOf(field);

const set = (field, value) => {
  if (isCheckbox(field)) {
    field.checked = value === "true";
    return;
  }
  field.value = value;
  // A collection that there is not: let the server say so, rather than search another one.
  if (field instanceof HTMLSelectElement && field.value !== value) field.add(new Option(value, value, false, true));
};

/** The fields that say how to search; files are kept apart. */
const fieldsOf = (form) => [...form.elements].filter((field) => field.name);

/** The address of a search: ?id=10003&count=20, and every option that is not at its default. */
export function addressOf(form) {
  const params = new URLSearchParams();
  for (const field of fieldsOf(form)) {
    if (field.name === "count" || isChanged(field)) params.set(field.name, textOf(field));
  }
  return `?${params}`;
}

/** Fill the form from an address; what the address does not name gets its default. */
export function fillForm(form, address) {
  const params = new URLSearchParams(address);
  for (const field of fieldsOf(form)) set(field, params.get(field.name) ?? defaultTextOf(field));
}

/** Put every option back to its default; what is searched for stays. */
export function resetOptions(form) {
  for (const field of fieldsOf(form)) {
    if (field.name !== "id" && field.name !== "collection") set(field, defaultTextOf(field));
  }
}

/** Read the filters' text. Throws a SyntaxError that says what is wrong. */
export function parseFilters(text) {
  if (!text.trim()) return [];
  const filters = JSON.parse(text);
  if (!Array.isArray(filters)) throw new SyntaxError("filters are a list: [{…}, {…}]");
  return filters;
}

/** The options of the form, without those at their defaults; the filters must parse. */
function optionsOf(form) {
  const field = (name) => form.elements.namedItem(name);
  const options = { count: Number(field("count").value) };
  const filters = parseFilters(field("filters").value);
  if (field("group").value) filters.unshift({ field: "group", in: [field("group").value] });
  if (filters.length) options.filters = filters;
  const changed = fieldsOf(form).filter((each) => each.name.startsWith("weight.") && isChanged(each));
  const weights = changed.map(({ name, value }) => [name.slice("weight.".length), Number(value)]);
  if (weights.length) options.weights = Object.fromEntries(weights);
  for (const name of ["two_phase", "collapse", "verbose"]) {
    if (isChanged(field(name))) options[name] = field(name).checked;
  }
  return options;
}

/**
 * One request, before it is sent.
 * @param {HTMLFormElement} form
 * @param {?{name: string, type: string, blob: ?Blob}} photo - null: search by the id in the form
 */
export function requestOf(form, photo) {
  const collection = form.elements.namedItem("collection").value;
  const options = optionsOf(form);
  const query = photo ? options : { image_id: form.elements.namedItem("id").value, ...options };
  const path = `/v1/collections/${encodeURIComponent(collection)}/search`;
  return { path, query, photo };
}

/** What is sent: JSON, or a form with the photo as it is and the JSON as its part `query`. */
export function bodyOf({ query, photo }) {
  const json = new Blob([JSON.stringify(query)], { type: "application/json" });
  if (!photo) return json;
  const form = new FormData();
  form.append("query", json);
  form.append("image", photo.blob, photo.name);
  return form;
}

/** The JSON as people read it. */
export const readable = ({ query }) => JSON.stringify(query, null, 2);

/** What goes with the JSON, in words; empty: nothing. */
export function partsOf({ photo }) {
  if (!photo) return "";
  const size = photo.blob ? ` (${photo.blob.size.toLocaleString("en")} bytes)` : "";
  return `Sent as multipart/form-data: this is the part “query”, and the part “image” is ${photo.name}${size}.`;
}

/** The same search as a shell command; a photo is sent from its file, the options in the address. The key stays out. */
export function curlOf({ path, query, photo }) {
  const url = new URL(path, location.origin);
  const key = currentKey() ? ' -H "Authorization: Bearer $LOOKALIKE_API_KEY"' : "";
  if (!photo) {
    return `curl ${quoted(url.href)}${key} -H 'content-type: application/json' -d ${quoted(JSON.stringify(query))}`;
  }
  url.pathname += "/image";
  for (const [name, value] of Object.entries(query)) {
    url.searchParams.set(name, typeof value === "object" ? JSON.stringify(value) : value);
  }
  const type = quoted(`content-type: ${photo.type}`);
  return `curl ${quoted(url.href)}${key} -H ${type} --data-binary ${quoted(`@${photo.name}`)}`;
}

/** Where the photo of a stored image is. */
export function photoPath(collection, id) {
  const encoded = id.split("/").map(encodeURIComponent).join("/");
  return `/v1/collections/${encodeURIComponent(collection)}/images/${encoded}/photo`;
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
