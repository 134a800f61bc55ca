// What the page says about answers and tracks, in words. It knows no elements of the page.

import { kindOf } from "./draw.js";
import { percent, text, wordsFor } from "./strings.js";

/** Return {kind, label} for the answer of one task about a face of a photo. */
export function sayAnswer({ answers, unknown }, task) {
  if (unknown) return { kind: "other", label: wordsFor("reasons", unknown) };
  return saySet(answers[task].possible, answers[task].probabilities);
}

/** Return {kind, label} for a track of the camera. */
export function sayTrack(track, smallest) {
  if (track.state !== null) return saySet([track.state], track.probabilities);
  if (track.size < smallest) return { kind: "other", label: text("tooFar") };
  if (!track.doubtful) return { kind: "other", label: "…" };
  return track.possible.length > 1 ? saySet(track.possible, track.probabilities)
    : { kind: "other", label: text("notSure") };
}

function saySet(possible, probabilities) {
  if (possible.length === 1) {
    const [name] = possible;
    const share = name in probabilities ? ` ${percent(probabilities[name])}` : "";
    return { kind: kindOf(name), label: wordsFor("classes", name) + share };
  }
  const names = sayAmong(possible, probabilities);
  return { kind: "other", label: names ? `${text("notSure")}: ${names}` : text("notSure") };
}

/** Return the names of some classes that stay possible; "" for all of them or none. */
function sayAmong(possible, all) {
  if (possible.length === Object.keys(all).length) return "";
  return possible.map((name) => wordsFor("classes", name)).join(` ${text("or")} `);
}

/**
 * Return {key, kind, title, more} of the large status: that of the nearest person.
 *
 * @param result the worker's answer to a frame.
 */
export function sayStatus({ tracks, faces, smallest }) {
  const present = tracks.filter(({ seen }) => seen).sort((a, b) => b.size - a.size);
  const [nearest] = present;
  if (nearest?.size >= smallest) {
    if (nearest.state !== null) return sayState(nearest.state);
    return fromKey(nearest.doubtful ? "doubtful" : "undecided", "ask");
  }
  if (!faces.length) return fromKey("nobody", "idle");
  return fromKey(faces.some(({ size }) => size >= smallest) ? "undecided" : "far", "ask");
}

function sayState(name) {
  if (["wear", "incorrect", "normal"].includes(name)) return fromKey(name, kindOf(name));
  return { key: `class ${name}`, kind: "other", title: wordsFor("classes", name), more: "" };
}

/** Return a status whose texts have a key of their own in strings.js. */
export function fromKey(key, kind) {
  return { key, kind, title: text(key), more: text(`${key}More`) };
}

/** Return the words for an event of a track; `classes` are all of the task. */
export function sayEvent({ event, track, state, probability, possible, reason }, classes) {
  const who = `${text("person")} ${track}`;
  if (event === "gone") {
    const last = state === null ? "" : ` (${wordsFor("classes", state)})`;
    return `${who}: ${text("gone")}${last}`;
  }
  if (event === "doubtful") {
    const among = possible.length > 1 && sayAmong(possible, classes);
    return `${who}: ${wordsFor("classes", "doubtful")} (${among || wordsFor("reasons", reason)})`;
  }
  return `${who}: ${wordsFor("classes", state)} ${percent(probability)}`;
}
