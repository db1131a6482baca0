/** What people see: text is only ever set as text, never as HTML. */

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const images = (count) => `${number(count)} ${count === 1 ? "image" : "images"}`;

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
  showPicture(null);
  clearHits();
  $("error").textContent = message;
}

/** A search is on its way: say what for, and dim what the last one found. */
export function showWaiting(label, pictureUrl) {
  $("main").dataset.view = "results";
  $("main").setAttribute("aria-busy", "true");
  document.title = `Photos like ${label} – lookalike`;
  $("heading").textContent = `Photos like ${label}`;
  $("error").textContent = $("warning").textContent = "";
  $("summary").textContent = "Searching…";
  showPicture(pictureUrl);
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

/** Take away the hits of another question. */
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

/** A slider for the weight of each component: { colour: { bits: 192, weight: 200 } }. */
export function showWeights(components) {
  const rows = Object.entries(components).map(([name, { bits, weight }]) => {
    const row = element("label", "weight");
    row.title = `${bits} bits`;
    const slider = element("input", "");
    Object.assign(slider, { type: "range", min: 0, max: 1000, step: 1, name: `weight.${name}`, defaultValue: weight });
    row.append(element("span", "", name), slider, element("output", "", weight));
    return row;
  });
  $("weights").replaceChildren($("weights").querySelector("legend"), ...rows);
  $("weights").hidden = rows.length === 0;
}

/** Write each slider's value beside it. */
export function showWeightValues() {
  for (const row of $("weights").querySelectorAll(".weight")) {
    row.querySelector("output").textContent = row.querySelector("input").value;
  }
}

/** The request as it will be sent, or the reason why none can be. */
export function showRequest(path, json, shortened) {
  $("address").textContent = path && `POST ${path}`;
  $("json").textContent = json;
  $("shortened").textContent = shortened;
  $("shortened").hidden = !shortened;
  $("curl").hidden = true;
}

function showPicture(url) {
  const picture = $("picture");
  picture.hidden = !url;
  if (url) picture.src = url;
  else picture.removeAttribute("src");
}
$("picture").addEventListener("error", () => showPicture(null)); // an unknown id has none

function card(hit, address) {
  const item = element("li", "");
  const link = element("a", "hit");
  link.href = address;
  link.dataset.id = hit.image_id;
  link.setAttribute("aria-label", `${hit.group_name}, distance ${hit.distance}, ${hit.image_id}`);
  const text = element("span", "text");
  const group = element("span", "group", hit.group_name || "no group");
  group.title = hit.group;
  const distance = figure("distance", "distance", hit.distance);
  distance.title = "0: the same descriptor";
  text.append(group, distance, element("span", "id", hit.image_id));
  for (const [name, bits] of Object.entries(hit.components ?? {})) text.append(figure("part", name, bits));
  link.append(photo(hit), text);
  item.append(link);
  return item;
}

function figure(className, name, value) {
  const row = element("span", className, name);
  row.append(element("b", "", number(value)));
  return row;
}

function photo(hit) {
  const frame = element("span", "frame");
  const image = element("img", "");
  // Lazy before src, or the photo would load at once.
  Object.assign(image, { loading: "lazy", decoding: "async", width: 224, height: 224, alt: "", src: hit.photo });
  image.addEventListener("error", () => frame.replaceChildren(element("span", "missing", "no photo")));
  frame.append(image);
  return frame;
}

function suggestGroups(hits) {
  const nodes = (group) => group.split("/").map((_, depth, names) => names.slice(0, depth + 1).join("/"));
  const paths = hits.flatMap(({ group }) => nodes(group));
  const known = [...$("groups").options].map((option) => option.value);
  const all = [...new Set([...known, ...paths])].filter(Boolean).sort();
  $("groups").replaceChildren(...all.map((path) => Object.assign(element("option", ""), { value: path })));
}
