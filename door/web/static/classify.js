// From crops to answers: normalisation, networks, votes, temperature, sets of possible classes, and
// the reasons why a face is not judged. It follows door/bundle.py.

import { makeCrop } from "./crop.js";
import { sharpnessOf, turnOf } from "./quality.js";
import { resizeSquare } from "./resize.js";

const TINY = 1e-7; // smaller probabilities count as this where a logarithm is taken

export class Classifier {
  /** Take the manifest and the networks by file name, as `openBundle` gives them. */
  constructor(manifest, nets) {
    this.manifest = manifest;
    this.nets = nets;
  }

  /** Return the faces of a photo with `size`, `sharpness`, `answers` and `unknown` added. */
  async classify(photo, faces) {
    const crops = faces.map(({ box, landmarks }) => (
      makeCrop(photo, box, landmarks, this.manifest.crop)));
    const answers = faces.length ? await this.#answer(crops) : [];
    return faces.map((face, i) => {
      const size = sizeOf(face.box);
      const sharpness = sharpnessOf(crops[i]);
      const unknown = reasonOf(this.manifest.limits, size, sharpness, turnOf(face.landmarks));
      return { ...face, size, sharpness, unknown, answers: answers[i] };
    });
  }

  /** Return for each crop the answers to all tasks by their names. */
  async #answer(crops) {
    const { classifiers, tasks } = this.manifest;
    const votes = crops.map(() => ({}));
    for (const each of classifiers) {
      const pixels = toTensor(crops, each);
      const side = each.image_size;
      const outputs = await this.nets[each.file](pixels, [crops.length, 3, side, side]);
      for (const [task, weight] of Object.entries(each.tasks)) {
        addVotes(votes, task, outputs[task].data, tasks[task].classes.length, weight);
      }
    }
    return votes.map((sums) => Object.fromEntries(
      Object.entries(tasks).map(([name, task]) => [name, answerOf(task, sums[name])])));
  }
}

/** Return the shorter side of a box in pixels. */
export function sizeOf(box) {
  return Math.min(box.x1 - box.x0, box.y1 - box.y0);
}

/** Return crops as one float32 array (N, 3, S, S), normalised by mean and standard deviation. */
function toTensor(crops, { image_size: side, mean, std }) {
  const plane = side * side;
  const out = new Float32Array(crops.length * 3 * plane);
  crops.forEach((crop, i) => {
    const { data } = resizeSquare(crop, side);
    for (let c = 0; c < 3; c++) {
      const start = (i * 3 + c) * plane;
      for (let at = 0; at < plane; at++) {
        out[start + at] = (data[at * 3 + c] / 255 - mean[c]) / std[c];
      }
    }
  });
  return out;
}

function addVotes(votes, task, logProbabilities, count, weight) {
  votes.forEach((sums, i) => {
    const sum = sums[task] ?? (sums[task] = { weight: 0, values: new Float64Array(count) });
    sum.weight += weight;
    for (let k = 0; k < count; k++) {
      sum.values[k] += weight * Math.exp(logProbabilities[i * count + k]);
    }
  });
}

/** Return {probabilities, possible, prediction} of one task from the sum of its votes. */
function answerOf(task, { weight, values }) {
  const probabilities = atTemperature(Array.from(values, (v) => v / weight), task.temperature);
  const scores = probabilities.map((p, k) => (
    task.offsets.length ? Math.log(Math.max(p, TINY)) + task.offsets[k] : p));
  const best = scores.reduce((top, score, k) => (score > scores[top] ? k : top), 0);
  const prediction = task.classes[best];
  const isPossible = (name, k) => Math.fround(probabilities[k]) >= limitOf(task.sets, name);
  return {
    probabilities: Object.fromEntries(task.classes.map((name, k) => [name, probabilities[k]])),
    possible: task.sets ? task.classes.filter(isPossible) : [prediction],
    prediction,
  };
}

/** Return the least probability with which a class is possible at the bundle's error rate. */
function limitOf({ alpha, classes }, name) {
  const { alphas, limits } = classes[name];
  return limits[alphas.findLastIndex((each) => each <= alpha + 1e-9)];
}

/** Return probabilities at another temperature: above 1 flatter, below 1 sharper. */
function atTemperature(probabilities, temperature) {
  if (temperature === 1) return probabilities;
  const logits = probabilities.map((p) => Math.log(Math.max(p, TINY)) / temperature);
  const top = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - top));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function reasonOf(limits, size, sharpness, turn) {
  if (size < limits.smallest_face) return "too small";
  if (sharpness < limits.sharpness) return "blurred";
  if (turn > limits.turn) return "turned";
  return null;
}
