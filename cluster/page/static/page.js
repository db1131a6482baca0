/** The search page: the form and the address bar hold the query; this file moves between them and the server. */

import { addExamples } from "./examples.js";
import { askForKey } from "./key.js";
import { keptPhoto, readPhoto } from "./photo.js";
import {
  addressOf,
  curlOf,
  fillForm,
  NO_PHOTO,
  parseFilters,
  partsOf,
  photoPath,
  readable,
  requestOf,
  resetOptions,
} from "./request.js";
import { readCollections, search } from "./server.js";
import * as view from "./view.js";

const $ = (id) => document.getElementById(id);
const form = $("search-form");
const field = (name) => form.elements.namedItem(name);

let collections = [];
let photo = null; // the query; where it is null, the id in the form is
let pending = new AbortController();
let lastRead = 0; // counts photos, so that one that is slow to read cannot replace a later one

// ---- the query

/** Search for a photo: a file that was chosen, dropped, pasted or drawn. */
async function searchByPhoto(blob, name) {
  const thisRead = ++lastRead;
  try {
    const read = await readPhoto(blob, name);
    if (thisRead !== lastRead) return; // another photo came while this one was read
    photo = read;
    field("id").value = "";
    submitSearch();
  } catch (error) {
    if (thisRead === lastRead) view.showError(error.message);
  }
}

/** Search for a stored image. */
function searchById(id) {
  field("id").value = id;
  submitSearch();
}

/** Search for what the form says, as a new step in the browser's history. */
function submitSearch() {
  lastRead += 1;
  if (field("id").value) photo = null;
  if (!photo && !field("id").value) {
    view.showError("Choose a photo, or give the id of an image.");
    return;
  }
  if (!validateForm()) return;
  const state = { photo: photo?.key ?? null };
  const address = addressOf(form);
  const again = address === location.search && state.photo === (history.state?.photo ?? null);
  history[again ? "replaceState" : "pushState"](state, "", address);
  sendSearch();
}

/** Show what the address bar says: after loading, and after Back and Forward. */
function restoreFromAddress() {
  lastRead += 1;
  pending.abort();
  fillForm(form, location.search);
  showCollection();
  fillForm(form, location.search); // again: the collection decides which weights there are
  const key = history.state?.photo;
  photo = keptPhoto(key) ?? null;
  if (photo || field("id").value) {
    if (validateForm()) sendSearch();
    else view.clearHits();
    return;
  }
  view.showStart(key ? "That photo is no longer in this page's memory; please choose it again." : "");
  preview();
}

/** Whether the form's values can be sent; the browser points at the first that cannot. */
function validateForm() {
  preview();
  if (form.checkValidity()) return true;
  const wrong = form.querySelector(":invalid:not(fieldset)");
  if ($("options").contains(wrong)) $("options").open = true;
  form.reportValidity();
  view.showError(`${wrong.name}: ${wrong.validationMessage}`);
  return false;
}

// ---- the request

async function sendSearch() {
  pending.abort();
  pending = new AbortController();
  const { signal } = pending;
  const request = currentRequest();
  const collection = field("collection").value;
  const id = field("id").value;
  view.showWaiting(photo ? "yours" : id, photo ? photo.url : photoPath(collection, id));
  try {
    const answer = await search(request, signal);
    if (!signal.aborted) view.showAnswer(answer, addressOfHit);
  } catch (error) {
    if (signal.aborted) return;
    view.clearHits();
    showFailure(error);
  }
}

/** The request that the form describes: by the id in it, else by the photo. */
const currentRequest = () => requestOf(form, field("id").value ? null : (photo ?? NO_PHOTO));

/** Show the request as it will be sent. */
function preview() {
  view.syncWeightSliders();
  const filters = field("filters");
  filters.setCustomValidity("");
  try {
    parseFilters(filters.value);
  } catch (error) {
    filters.setCustomValidity(error.message);
    view.showRequest("", `The filters are not valid: ${error.message}`, "");
    return;
  }
  const request = currentRequest();
  view.showRequest(request.path, readable(request), partsOf(request));
}

function addressOfHit(id) {
  const params = new URLSearchParams(addressOf(form));
  params.set("id", id);
  return `?${params}`;
}

async function copyCurl() {
  if (!validateForm()) return;
  const command = curlOf(currentRequest());
  $("curl").textContent = command;
  $("curl").hidden = false;
  // Without https or localhost a page has no clipboard: the command is there to be copied by hand.
  const copied = await navigator.clipboard?.writeText(command).then(
    () => true,
    () => false,
  );
  if (copied) $("copy").textContent = "Copied";
  setTimeout(() => {
    $("copy").textContent = "Copy as curl";
  }, 2000);
}

// ---- ways to give a photo

function acceptFiles(input) {
  input.addEventListener("change", () => {
    if (input.files.length) searchByPhoto(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
}

function acceptDrops() {
  const mark = (on) => document.body.classList.toggle("dropping", on);
  const isText = ({ target, dataTransfer }) =>
    target.closest?.("input, textarea") && !dataTransfer.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (isText(event)) return;
    event.preventDefault(); // or the browser would leave the page to show the photo
    mark(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) mark(false);
  });
  document.addEventListener("drop", (event) => {
    mark(false);
    if (isText(event)) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) searchByPhoto(file);
    else view.showError("That was no file. Save the photo first, then drop it here.");
  });
}

function acceptPastes() {
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return; // text goes where it was pasted
    event.preventDefault();
    searchByPhoto(file);
  });
}

// ---- clicks and collections

function searchByHit(event) {
  const link = event.target.closest("a.hit");
  const elsewhere = event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
  if (!link || elsewhere) return;
  event.preventDefault();
  searchById(link.dataset.id);
  window.scrollTo({ top: 0 });
  $("heading").focus({ preventScroll: true });
}

async function loadCollections() {
  ({ collections } = await readCollections());
  const names = collections.map(({ name }) => name).sort();
  const ordered = names.includes("default") ? ["default", ...names.filter((name) => name !== "default")] : names;
  field("collection").replaceChildren(...ordered.map((name) => new Option(name)));
  $("collection-field").hidden = ordered.length < 2;
}

function showCollection() {
  const chosen = collections.find(({ name }) => name === field("collection").value);
  if (!chosen) return;
  view.showCatalogue(chosen);
  view.showWeights(chosen.components);
}

async function start() {
  addExamples($("examples"), searchByPhoto);
  [$("file"), $("camera")].forEach(acceptFiles);
  acceptDrops();
  acceptPastes();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submitSearch();
  });
  form.addEventListener("input", preview);
  field("collection").addEventListener("change", () => {
    showCollection();
    preview();
  });
  $("hits").addEventListener("click", searchByHit);
  $("copy").addEventListener("click", copyCurl);
  $("defaults").addEventListener("click", () => {
    resetOptions(form);
    preview();
  });
  window.addEventListener("popstate", restoreFromAddress);
  await showServer();
}

/** Show the collections, and what the address bar says; or ask for the key without which there is neither. */
async function showServer() {
  const failure = await loadCollections().catch((error) => error);
  if (failure?.status === 401) {
    view.showStart();
    showFailure(failure);
    return;
  }
  restoreFromAddress();
  if (failure) showFailure(failure);
}

function showFailure(error) {
  if (error.status === 401) askForKey(error, showServer);
  else view.showError(error.message);
}

start();
