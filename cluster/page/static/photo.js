/** Photos that were given to this page. They are sent as they are: a smaller copy would get other codes. */

const MAX_PHOTO_BYTES = 25e6; // the server takes no more
const MAX_KEPT_PHOTOS = 8; // for Back and Forward; each may take 25 MB

const kept = new Map();
let count = 0;

/**
 * Read a photo and keep it for Back and Forward.
 * @param {Blob} blob
 * @returns {Promise<{key: string, name: string, type: string, sizeBytes: number, blob: Blob, url: string}>}
 * @throws {Error} It is too large, or cannot be read; the message is for people.
 */
export async function readPhoto(blob, name = blob.name || "photo.jpg") {
  if (blob.size > MAX_PHOTO_BYTES) {
    throw new Error(`${name} has ${(blob.size / 1e6).toFixed(1)} MB; at most 25 MB are allowed.`);
  }
  const type = blob.type || "application/octet-stream";
  const read = new Blob([await contentOf(blob, name)], { type });
  const photo = {
    key: `${performance.timeOrigin}/${++count}`, // unlike any from before the page was loaded anew
    name,
    type,
    sizeBytes: read.size,
    blob: read,
    url: URL.createObjectURL(read),
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

/** Read a file now, since it may change or go before it is sent again. */
async function contentOf(blob, name) {
  try {
    return await blob.arrayBuffer();
  } catch {
    throw new Error(`${name} cannot be read; is it a folder, or gone?`);
  }
}
