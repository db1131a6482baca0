/** What people see: text is only ever set as text, never as HTML. */

import { showStoredPhoto } from "./key.js";

const MAX_WEIGHT = 10;

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const images = (count) => `${number(count)} ${count === 1 ? "image" : "images"}`;

// Rounded down: only the same descriptor is 100% similar.
const percent = (fraction) => `${(Math.floor(fraction * 1000) / 10).toFixed(1)}%`;

const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : number(Math.round(value))} ms`;

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** The page before the first search. */
export function showStart(message = "") {
  $("main").dataset.view = "start";
  document.title = "lookalike";
  showQueryPhoto(null);
  clearHits();
  $("error").textContent = message;
}

/** A search is pending: say what for, and dim the hits of the last one. */
export function showWaiting(label, photoUrl) {
  $("main").dataset.view = "results";
  $("main").setAttribute("aria-busy", "true");
  document.title = `Photos like ${label} – lookalike`;
  $("heading").textContent = `Photos like ${label}`;
  $("error").textContent = $("warning").textContent = "";
  $("summary").textContent = "Searching…";
  showQueryPhoto(photoUrl);
}

/** Show an answer; `addressOfHit` gives the link of a hit. */
export function showAnswer(answer, addressOfHit) {
  $("main").removeAttribute("aria-busy");
  const { hits, took_ms, shards_answered, shards_total } = answer;
  $("summary").textContent = hits.length
    ? `${images(hits.length)}, nearest first, in ${milliseconds(took_ms)}. Click one to search from it.`
    : "Nothing found. If you set a group or filters, no image meets them.";
  $("warning").textContent =
    shards_answered < shards_total
      ? `Only ${shards_answered} of ${shards_total} shards answered: some images were not searched.`
      : "";
  $("hits").replaceChildren(...hits.map((hit) => card(hit, addressOfHit(hit.image_id))));
  suggestGroups(hits);
}

/** Say what went wrong, where the eye and the screen reader are. */
export function showError(message) {
  $("error").textContent = message;
  $("error").scrollIntoView({ block: "nearest" });
}

/** Take away the hits of the query before. */
export function clearHits() {
  $("main").removeAttribute("aria-busy");
  for (const id of ["warning", "heading", "summary"]) $(id).textContent = "";
  $("hits").replaceChildren();
}

/** How large the catalogue is, and which model encoded it. */
export function showCatalogue({ rows, model }) {
  $("catalogue").textContent = images(rows);
  $("catalogue").title = `encoded by ${model}`;
}

/**
 * Controls for the weight of each component: { colour: { bits: 192, weight: 2 } }. The number is what is sent, with two
 * decimals; the slider beside it goes in steps of 0.1.
 */
export function showWeights(components) {
  const rows = Object.entries(components).map(([name, { bits, weight }]) => {
    const row = element("div", "weight");
    row.title = `${bits} bits; each that differs counts this much`;
    const label = element("label", "", name);
    const number = element("input", "");
    number.id = label.htmlFor = `weight-of-${name}`;
    const limits = { min: 0, max: MAX_WEIGHT };
    Object.assign(number, { type: "number", ...limits, step: 0.01, required: true, name: `weight.${name}` });
    number.defaultValue = weight;
    const slider = element("input", "");
    Object.assign(slider, { type: "range", ...limits, step: 0.1 });
    slider.setAttribute("aria-label", `weight of ${name}`);
    slider.addEventListener("input", () => {
      number.value = slider.value;
    });
    row.append(label, slider, number);
    return row;
  });
  $("weights").replaceChildren($("weights").querySelector("legend"), ...rows);
  $("weights").hidden = rows.length === 0;
}

/** Move each weight's slider to its number. */
export function syncWeightSliders() {
  for (const row of $("weights").querySelectorAll(".weight")) {
    row.querySelector("[type=range]").value = row.querySelector("[type=number]").value;
  }
}

/** The request as it will be sent, or the reason why none can be. */
export function showRequest(path, json, parts) {
  $("address").textContent = path && `POST ${path}`;
  $("json").textContent = json;
  $("parts").textContent = parts;
  $("parts").hidden = !parts;
  $("curl").hidden = true;
}

function showQueryPhoto(url) {
  const image = $("query-photo");
  image.hidden = !url;
  image.removeAttribute("src");
  image.dataset.photo = "";
  if (url?.startsWith("blob:")) image.src = url;
  else if (url) showStoredPhoto(image, url);
}
$("query-photo").addEventListener("error", () => showQueryPhoto(null)); // an unknown id has none

function card(hit, address) {
  const item = element("li", "");
  const link = element("a", "hit");
  const similarity = percent(hit.similarity);
  const distance = `${number(hit.distance)} bits`;
  link.href = address;
  link.dataset.id = hit.image_id;
  link.setAttribute("aria-label", `${hit.group_name}, similarity ${similarity}, distance ${distance}, ${hit.image_id}`);
  const text = element("span", "text");
  const group = element("span", "group", hit.group_name || "no group");
  group.title = hit.group;
  const score = element("span", "score");
  score.title = `similarity ${similarity}, distance ${distance} (weighted); 100.0% and 0 bits: the same descriptor`;
  score.append(element("b", "similarity", similarity), element("span", "distance", distance));
  text.append(group, score, element("span", "id", hit.image_id));
  for (const [name, bits] of Object.entries(hit.components ?? {})) text.append(component(name, bits));
  link.append(photo(hit), text);
  item.append(link);
  return item;
}

function component(name, bits) {
  const row = element("span", "component", name);
  row.append(element("b", "", number(bits)));
  return row;
}

function photo(hit) {
  const frame = element("span", "frame");
  const image = element("img", "");
  // Lazy before src, or the photo would load at once.
  Object.assign(image, { loading: "lazy", decoding: "async", width: 224, height: 224, alt: "" });
  image.addEventListener("error", () => frame.replaceChildren(element("span", "missing", "no photo")));
  frame.append(image);
  showStoredPhoto(image, hit.photo);
  return frame;
}

function suggestGroups(hits) {
  const nodes = (group) => group.split("/").map((_, depth, names) => names.slice(0, depth + 1).join("/"));
  const paths = hits.flatMap(({ group }) => nodes(group));
  const known = [...$("groups").options].map((option) => option.value);
  const all = [...new Set([...known, ...paths])].filter(Boolean).sort();
  $("groups").replaceChildren(...all.map((path) => Object.assign(element("option", ""), { value: path })));
}
