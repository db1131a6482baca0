/** Photos that were given to this page. They are sent as they are: a smaller copy would get other codes. */

const MAX_PHOTO_BYTES = 25e6; // the server takes no more
const MAX_KEPT_PHOTOS = 8; // for Back and Forward; each may take 60 MB

const kept = new Map();
let count = 0;

/**
 * Read a photo and keep it for Back and Forward.
 * @param {Blob} blob
 * @returns {Promise<{key: string, name: string, type: string, sizeBytes: number, base64: string, url: string}>}
 * @throws {Error} It is too large, or cannot be read; the message is for people.
 */
export async function readPhoto(blob, name = blob.name || "photo.jpg") {
  if (blob.size > MAX_PHOTO_BYTES) {
    throw new Error(`${name} has ${(blob.size / 1e6).toFixed(1)} MB; at most 25 MB are allowed.`);
  }
  const photo = {
    key: `${performance.timeOrigin}/${++count}`, // unlike any from before the page was loaded anew
    name,
    type: blob.type || "application/octet-stream",
    sizeBytes: blob.size,
    base64: await base64Of(blob, name),
    url: URL.createObjectURL(blob),
  };
  kept.set(photo.key, photo);
  if (kept.size > MAX_KEPT_PHOTOS) forgetOldest();
  return photo;
}

/** A photo that was read before, or undefined: it was too long ago, or the page was loaded anew. */
export const keptPhoto = (key) => kept.get(key);

function forgetOldest() {
  const [key, photo] = kept.entries().next().value;
  URL.revokeObjectURL(photo.url);
  kept.delete(key);
}

function base64Of(blob, name) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error(`${name} cannot be read; is it a folder, or gone?`));
    reader.readAsDataURL(blob);
  });
}
