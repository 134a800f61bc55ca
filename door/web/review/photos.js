// The pictures of a few crops, and what the model says about each: those that were shown last, and
// the one that comes next.

import { fetchPhoto, predict } from "./requests.js";

const MOST = 6;
const kept = new Map(); // id -> promise of {url, face}; face is undefined until it is known

/** Return a promise of {url, face, isJudged} of a crop; `onFace` is called once it is judged. */
export function photoOf(id, onFace) {
  if (!kept.has(id)) kept.set(id, load(id, onFace));
  for (const old of [...kept.keys()].slice(0, -MOST)) forget(old);
  return kept.get(id);
}

export async function forget(id) {
  const promise = kept.get(id);
  kept.delete(id);
  const photo = await promise?.catch(() => null);
  if (photo) URL.revokeObjectURL(photo.url);
}

async function load(id, onFace) {
  try {
    const blob = await fetchPhoto(id);
    const photo = { url: URL.createObjectURL(blob), face: undefined, isJudged: false };
    predict(blob).then((face) => {
      photo.face = face;
      photo.isJudged = true;
      onFace(id);
    }, (error) => console.warn(`no probabilities: ${error.message}`));
    return photo;
  } catch (error) {
    kept.delete(id);
    throw error;
  }
}
