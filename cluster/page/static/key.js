/**
 * The API key that the user gave, for as long as this tab is open. It is sent as a header with each request, photos
 * included: a cookie would go to every other server on the same host too, whatever its port, and with requests that
 * pages of other sites make; in an address it would end in logs and in the browser's history.
 */

const NAME = "lookalike.key";

/** The key, or null. */
export const currentKey = () => sessionStorage.getItem(NAME);

/** The headers that carry the key; none, if there is no key. */
export function keyHeaders() {
  const key = currentKey();
  return key ? { authorization: `Bearer ${key}` } : {};
}

/** Ask for a key where `error` says that one is needed; `onGiven` is called when there is one. */
export function askForKey(error, onGiven) {
  const form = document.getElementById("key-form");
  form.hidden = false;
  form.elements.key.value = "";
  document.getElementById("key-reason").textContent = currentKey() ? error.message : "This server wants an API key.";
  form.elements.key.focus();
  form.onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem(NAME, form.elements.key.value.trim());
    form.hidden = true;
    onGiven();
  };
}

/** Show the photo at `path` in an <img>: by its address, or fetched with the key once it is near the window. */
export function showStoredPhoto(image, path) {
  image.dataset.photo = path;
  if (currentKey()) observer.observe(image);
  else image.src = path;
}

const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      fetchPhoto(target, target.dataset.photo);
    }
  },
  { rootMargin: "400px" },
);

async function fetchPhoto(image, path) {
  let content = null;
  try {
    const response = await fetch(path, { headers: keyHeaders() });
    if (response.ok) content = await response.blob();
  } catch {
    // the server is gone: as if there were no photo
  }
  if (image.dataset.photo !== path) return; // another photo is wanted by now
  if (!content) {
    image.dispatchEvent(new Event("error"));
    return;
  }
  const url = URL.createObjectURL(content);
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  image.src = url;
}
