// The requests of the page that labels crops, each with the key of the server if it has one. The
// key is kept in memory alone.

const REVIEW = new URL("../v1/review", document.baseURI).href;
const PREDICT = new URL("../v1/predict", document.baseURI).href;
let key = "";

/** A request that the server refused, with its status, and the crop that it was about. */
export class RefusedError extends Error {
  constructor(status, message, crop) {
    super(message);
    this.status = status;
    this.crop = crop;
  }
}

/** Send this key from now on. */
export function setKey(text) {
  key = text;
}

async function ask(url, { crop, ...options } = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(url, { ...options, headers });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new RefusedError(response.status, said.error?.message ?? response.statusText, crop);
}

const askFor = (crop, options) => ask(`${REVIEW}/${encodeURIComponent(crop)}`, { crop, ...options });

/** Return {tasks: {task: [class]}, crops: [{id, taken, expires, labels: {task: class}}]}. */
export async function listCrops() {
  return (await ask(REVIEW)).json();
}

/** Save labels {task: class} of a crop; return the crop as it is saved. */
export async function saveLabels(id, labels) {
  const body = JSON.stringify(labels);
  const headers = { "Content-Type": "application/json" };
  return (await askFor(id, { method: "PUT", body, headers })).json();
}

export async function deleteCrop(id) {
  await askFor(id, { method: "DELETE" });
}

/** Return the picture of a crop as a blob. */
export async function fetchPhoto(id) {
  return (await askFor(id)).blob();
}

/** Return the main face that the bundle finds in a picture; undefined without one. */
export async function predict(photo) {
  const headers = { "Content-Type": photo.type };
  const answer = await (await ask(PREDICT, { method: "POST", body: photo, headers })).json();
  return answer.images[0].faces[0];
}
