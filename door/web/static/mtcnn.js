// The detector MTCNN: a photo in, boxes, scores and landmarks of its faces out. It follows the
// Python runtime step by step: pyramid, P-Net, NMS, R-Net, NMS, O-Net, NMS.

import { IntegralImage } from "./area.js";
import {
  applyOffsets, isCutByEdge, makeSquare, meanOfOverlapping, nmsIou, nmsSmaller, pixelWindow,
  unstretch,
} from "./boxes.js";

const WINDOW = 12; // receptive field of P-Net in pixels of a level
const STRIDE = 2;
const MIN_OVERLAP = 0.7; // of the smaller area, from which on a better face removes another
const MOST_WINDOWS = 64; // windows of one call of R- or O-Net, which bounds memory in crowds

/** Return the levels {scale, width, height} of the image pyramid, finest first. */
export function pyramidLevels(width, height, smallestFace, factor) {
  let scale = WINDOW / smallestFace;
  let shorter = Math.min(width, height) * scale;
  const levels = [];
  while (shorter >= WINDOW) {
    levels.push({
      scale,
      width: Math.trunc(width * scale + 1),
      height: Math.trunc(height * scale + 1),
    });
    scale *= factor;
    shorter *= factor;
  }
  return levels;
}

export class Detector {
  /**
   * @param nets {pnet, rnet, onet}: functions from a float32 array and its shape to the outputs
   *   {name: {data, dims}} of the network.
   *   Onet and the optional `localiser` give landmarks too.
   * @param settings the entry `detector` of the manifest.
   */
  constructor(nets, settings) {
    this.nets = nets;
    this.settings = settings;
  }

  /** Return the faces {box, score, landmarks} of a photo, best first. */
  async detect(photo, thresholds = this.settings.thresholds) {
    const image = new IntegralImage(photo);
    const proposals = await this.#propose(image, thresholds[0]);
    const candidates = nmsIou(proposals, 0.7).map(({ box, score, offsets }) => (
      { box: makeSquare(applyOffsets(box, offsets, 0)), score }));
    const refined = await this.#refine(image, candidates, thresholds[1]);
    return this.#finish(image, refined, thresholds[2]);
  }

  async #propose(image, threshold) {
    const { min_face_size, factor } = this.settings;
    const found = [];
    for (const level of pyramidLevels(image.width, image.height, min_face_size, factor)) {
      const { width, height } = level;
      const whole = { x0: 0, y0: 0, x1: image.width, y1: image.height };
      const pixels = new Float32Array(3 * width * height);
      image.resizeInto(pixels, 0, whole, width, height);
      const { logit, offsets } = await this.nets.pnet(pixels, [1, 3, height, width]);
      found.push(...nmsIou(readLevel(level, logit, offsets, threshold), 0.5));
    }
    return found.sort((a, b) => b.score - a.score);
  }

  async #refine(image, candidates, threshold) {
    const seen = await this.#runOnWindows("rnet", image, candidates, 24);
    const passed = seen.filter(({ score }) => score > Math.fround(threshold));
    return nmsIou(passed, this.settings.rnet_overlap).map(({ box, score, offsets }) => (
      { box: makeSquare(applyOffsets(box, offsets, 1)), score }));
  }

  async #finish(image, candidates, threshold) {
    const seen = await this.#runOnWindows("onet", image, candidates, 48);
    const faces = seen.filter(({ score }) => score > Math.fround(threshold)).map((each) => ({
      box: applyOffsets(each.box, each.offsets, 1),
      score: each.score,
      landmarks: placeLandmarks(each.box, each.landmarks),
    }));
    const placed = this.nets.localiser ? await this.#placeAgain(image, faces) : faces;
    return nmsSmaller(placed, MIN_OVERLAP);
  }

  /** Run the localiser on the mean of each face's boxes, which says where the face is. */
  async #placeAgain(image, faces) {
    const best = nmsSmaller(faces, MIN_OVERLAP).map((each) => ({
      ...each, box: meanOfOverlapping(each, faces),
    }));
    const cut = await this.#lookAgain(image, best);
    await this.#lookAgain(image, cut); // their boxes move far
    return best;
  }

  /** Place faces by the localiser, and return those whose squares the photo's edge cuts. */
  async #lookAgain(image, faces) {
    const squares = faces.map(({ box }) => ({ box: makeSquare(box) }));
    const seen = await this.#runOnWindows("localiser", image, squares, 48, isCutByEdge);
    for (const { index, box, offsets } of seen) faces[index].box = applyOffsets(box, offsets, 1);
    const cut = seen.filter(isCutByEdge);
    for (const { index, box, landmarks } of cut) {
      faces[index].landmarks = placeLandmarks(box, landmarks);
    }
    return cut.map(({ index }) => faces[index]);
  }

  /**
   * Run a network on all candidates that overlap the photo; return them with its outputs. Windows of
   * which `isCut` is true are put where they are in their squares.
   */
  async #runOnWindows(name, image, candidates, size, isCut = () => false) {
    const seen = [];
    candidates.forEach(({ box }, index) => {
      const window = pixelWindow(box, image.width, image.height);
      if (window) seen.push({ index, box, window });
    });
    const length = 3 * size * size;
    const results = [];
    for (let start = 0; start < seen.length; start += MOST_WINDOWS) {
      const part = seen.slice(start, start + MOST_WINDOWS);
      const pixels = new Float32Array(part.length * length);
      part.forEach((each, i) => {
        image.resizeInto(pixels, i * length, each.window, size, size);
        if (isCut(each)) {
          unstretch(pixels.subarray(i * length, (i + 1) * length), size, each.box, each.window);
        }
      });
      const out = await this.nets[name](pixels, [part.length, 3, size, size]);
      part.forEach(({ index, box, window }, i) => results.push({
        index,
        box,
        window,
        score: sigmoid(out.logit.data[i]),
        offsets: out.offsets.data.slice(i * 4, i * 4 + 4),
        landmarks: out.landmarks?.data.slice(i * 10, i * 10 + 10),
      }));
    }
    return results;
  }
}

/** Return a float32 score; those of P-Net tie at exactly 1, which decides what NMS keeps. */
function sigmoid(logit) {
  const f = Math.fround;
  return f(1 / f(1 + f(Math.exp(-logit))));
}

function readLevel(level, logit, offsets, threshold) {
  const [, rows, columns] = logit.dims;
  const plane = rows * columns;
  const scale = Math.fround(level.scale);
  const least = Math.fround(threshold);
  const place = (at, end) => Math.floor(Math.fround((at * STRIDE + end) / scale));
  const found = [];
  for (let i = 0; i < plane; i++) {
    const score = sigmoid(logit.data[i]);
    if (score < least) continue;
    const row = Math.floor(i / columns);
    const column = i % columns;
    found.push({
      box: {
        x0: place(column, 1), y0: place(row, 1),
        x1: place(column, WINDOW), y1: place(row, WINDOW),
      },
      score,
      offsets: [0, 1, 2, 3].map((side) => offsets.data[side * plane + i]),
    });
  }
  return found;
}

/** Return five {x, y} in photo pixels from O-Net's five x and five y, fractions of the box. */
function placeLandmarks(box, fractions) {
  const f = Math.fround;
  const width = f(f(box.x1 - box.x0) + 1);
  const height = f(f(box.y1 - box.y0) + 1);
  return [0, 1, 2, 3, 4].map((i) => ({
    x: f(f(f(fractions[i] * width) + box.x0) - 1),
    y: f(f(f(fractions[i + 5] * height) + box.y0) - 1),
  }));
}
