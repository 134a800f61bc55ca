// The door: a bundle with a detector, a classifier, and the tracks of one camera. Of tracked faces
// not every frame is classified. It knows pixels as arrays; no canvas, no page.

import { Classifier, sizeOf } from "./classify.js";
import { Detector } from "./mtcnn.js";
import { DEFAULTS, overlapOf, Tracks } from "./tracks.js";

const EVERY = 3; // a face whose track has a state is classified in every third frame
const MIRRORED = [1, 0, 2, 4, 3]; // landmarks of a mirror image: left and right are exchanged

export class Door {
  /** Take the manifest and the networks by file name, as `openBundle` gives them. */
  constructor(manifest, nets) {
    this.manifest = manifest;
    this.detector = new Detector({
      pnet: nets["pnet.onnx"], rnet: nets["rnet.onnx"], onet: nets["onet.onnx"],
      localiser: nets["localiser.onnx"],
    }, manifest.detector);
    this.classifier = new Classifier(manifest, nets);
    this.task = "mask" in manifest.tasks ? "mask" : Object.keys(manifest.tasks)[0];
    this.#begin();
  }

  #begin() {
    const { limits, tasks } = this.manifest;
    this.smallest = limits.smallest_face || DEFAULTS.smallest_face; // pixels
    this.tracks = new Tracks(tasks[this.task].classes, {
      smallest_face: this.smallest, smallest_sharpness: limits.sharpness,
    });
    this.lastClassified = new Map(); // track -> number of the frame
    this.frames = 0;
  }

  /** Run all networks once, since the first run is slow. */
  async warmUp() {
    const side = 160;
    const photo = { data: new Uint8ClampedArray(side * side * 4), width: side, height: side };
    const box = { x0: 40, y0: 40, x1: 120, y1: 120 };
    const landmarks = Array.from({ length: 5 }, (_, i) => ({ x: 60 + 10 * i, y: 60 + 10 * i }));
    await this.detector.detect(photo, [0, 0, 0]);
    await this.classifier.classify(photo, [{ box, landmarks, score: 1 }]);
  }

  /** Return the faces of a photo, the main face first, as `Bundle.predict` does. */
  async photo(photo) {
    let faces = await this.detector.detect(photo);
    let status = "detected";
    for (const step of this.manifest.detector.retry) {
      if (faces.length || step.contrast || step.scale !== 1) continue;
      const view = step.flip ? mirror(photo) : photo;
      const found = await this.detector.detect(view, step.thresholds);
      faces = step.flip ? found.map((face) => mirrorFace(face, photo.width)) : found;
      status = "retried";
    }
    const main = mainFace(faces, this.manifest.detector.select, photo);
    const sorted = faces.length ? [faces[main], ...faces.filter((_, i) => i !== main)] : [];
    const answered = await this.classifier.classify(photo, sorted);
    return answered.map((face) => ({ ...face, status }));
  }

  /** Take in one frame of the camera at `time` in seconds. */
  async frame(photo, time) {
    const start = performance.now();
    const found = await this.detector.detect(photo);
    const due = found.filter((face) => this.#isDue(face));
    const answered = new Map();
    (await this.classifier.classify(photo, due)).forEach((face, i) => answered.set(due[i], face));
    const faces = found.map((face) => sightingOf(answered.get(face) ?? face, this.task));
    const events = this.tracks.step(time, faces);
    this.frames += 1;
    for (const face of due) {
      const track = this.#trackOf(face);
      if (track) this.lastClassified.set(track.id, this.frames);
    }
    const live = this.tracks.live.map((track) => ({
      id: track.id, box: track.box, state: track.state, doubtful: track.doubtful,
      probabilities: track.probabilities, possible: track.possible, seen: track.lastSeen === time,
      size: Math.min(track.box[2] - track.box[0], track.box[3] - track.box[1]),
    }));
    const counts = this.tracks.counts();
    const { smallest } = this;
    return { time, faces, tracks: live, events, counts, smallest, ms: performance.now() - start };
  }

  /** End all tracks, since the camera has stopped; the next frame begins anew. */
  stop() {
    const events = this.tracks.close();
    const counts = this.tracks.counts();
    this.#begin();
    return { events, counts };
  }

  #trackOf(face) {
    const { x0, y0, x1, y1 } = face.box;
    const overlaps = this.tracks.all.map((track) => (
      { track, overlap: overlapOf(track.box, [x0, y0, x1, y1]) }));
    overlaps.sort((a, b) => b.overlap - a.overlap);
    return overlaps[0]?.overlap >= 0.3 ? overlaps[0].track : null;
  }

  #isDue(face) {
    const track = this.#trackOf(face);
    if (!track || track.state === null) return true;
    return this.frames - (this.lastClassified.get(track.id) ?? -EVERY) >= EVERY - 1;
  }
}

/** Return a face as the tracks need it; one that was not classified has no probabilities. */
function sightingOf(face, task) {
  const { x0, y0, x1, y1 } = face.box;
  const answer = face.answers?.[task];
  return {
    box: [x0, y0, x1, y1],
    size: sizeOf(face.box),
    sharpness: face.sharpness ?? 0,
    probabilities: answer?.probabilities ?? null,
    possible: answer?.possible ?? [],
    unknown: face.unknown ?? null,
  };
}

/** Return the index of the main face, as stage 1's selection methods do. */
function mainFace(faces, method, { width, height }) {
  const areas = faces.map(({ box }) => (box.x1 - box.x0) * (box.y1 - box.y0));
  const largest = (values) => values.reduce((top, value, i) => (value > values[top] ? i : top), 0);
  if (method === "largest") return largest(areas);
  if (method === "center_weighted_size") {
    return largest(areas.map((area, i) => {
      const { x0, y0, x1, y1 } = faces[i].box;
      return area - 2 * (((x0 + x1 - width) / 2) ** 2 + ((y0 + y1 - height) / 2) ** 2);
    }));
  }
  const scores = faces.map(({ score }) => score);
  const isSure = scores.map((score) => score >= 0.9);
  if (method === "probability" || !isSure.includes(true)) return largest(scores);
  return largest(areas.map((area, i) => (isSure[i] ? area : -1)));
}

function mirror({ data, width, height }) {
  const from = new Uint32Array(data.buffer, data.byteOffset, width * height);
  const to = new Uint32Array(width * height);
  for (let at = 0; at < to.length; at++) {
    const column = at % width;
    to[at] = from[at - column + width - 1 - column];
  }
  return { data: new Uint8ClampedArray(to.buffer), width, height };
}

function mirrorFace({ box, landmarks, score }, width) {
  return {
    box: { x0: width - box.x1, y0: box.y0, x1: width - box.x0, y1: box.y1 },
    landmarks: MIRRORED.map((i) => ({ x: width - landmarks[i].x, y: landmarks[i].y })),
    score,
  };
}
