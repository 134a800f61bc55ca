// Tracks of faces through the frames of one camera, and the events that they cause. It implements
// the section "The logic" of docs/door.md, as door/tracks.py does, sums in the same order: recorded
// traces hold both to the same figures. It knows boxes, probabilities and seconds; no pixels.

/** The numbers of the logic; see docs/door.md for their meaning and units. */
export const DEFAULTS = Object.freeze({
  smallest_face: 40,
  smallest_sharpness: 0,
  full_weight_at: 2,
  min_iou: 0.3,
  lost_seconds: 1,
  min_sightings: 3,
  memory_seconds: 2,
  enough_weight: 1.5,
  hold_seconds: 0.5,
  doubt_seconds: 2,
  alarm_classes: ["normal", "incorrect"],
});

/** Return the intersection over union of two boxes [x1, y1, x2, y2]; 0 where none has an area. */
export function overlapOf(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const common = Math.max(width, 0) * Math.max(height, 0);
  const union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common;
  return union > 0 ? common / union : 0;
}

const share = (value, full) => (full > 0 ? Math.min(1, value / full) : 1);

/** Follow the faces of one camera. */
export class Tracks {
  #classes;
  #rules;
  #tracks = [];
  #ended = new Map(); // minute -> {outcome: number of tracks}
  #nextId = 1;
  #time = null;

  /** Take the names of the task's classes, in the order of the manifest. */
  constructor(classes, settings = {}) {
    this.#classes = [...classes];
    this.#rules = { ...DEFAULTS, ...settings };
  }

  /** All tracks that have not ended, also those that are no person yet. */
  get all() {
    return [...this.#tracks];
  }

  /** The tracks of persons that have not ended, in the order of their numbers. */
  get live() {
    return this.#tracks.filter((track) => this.#isPerson(track));
  }

  /** Take in one frame: its time in seconds and its faces. Return the events. */
  step(time, faces) {
    if (!Number.isFinite(time) || (this.#time !== null && time < this.#time)) {
      throw new RangeError(`wanted a time of at least ${this.#time} s, got ${time} s`);
    }
    this.#time = time;
    const events = this.#end((track) => time - track.lastSeen > this.#rules.lost_seconds);
    for (const [track, face] of this.#match(time, faces)) {
      track.box = face.box;
      track.lastSeen = time;
      track.sightings += 1;
      this.#remember(track, face, time);
      if (this.#isPerson(track) && face.size >= this.#rules.smallest_face) {
        events.push(...this.#judge(track, face, time));
      }
    }
    return events;
  }

  /** End all tracks, as at the end of a video. Return their events. */
  close() {
    return this.#end(() => true);
  }

  /** Return the tracks of each minute with any, by their newest state. */
  counts() {
    const minutes = new Map();
    for (const [minute, tally] of this.#ended) minutes.set(minute, { ...tally });
    for (const track of this.live) addTo(minutes, minuteOf(track), outcomeOf(track));
    return [...minutes.keys()].sort((a, b) => a - b).map((minute) => {
      const tally = minutes.get(minute);
      const count = (outcome) => tally[outcome] ?? 0;
      return {
        minute,
        classes: Object.fromEntries(this.#classes.map((name) => [name, count(`is ${name}`)])),
        doubtful: count("doubtful"),
        undecided: count("undecided"),
      };
    });
  }

  #isPerson(track) {
    return track.sightings >= this.#rules.min_sightings;
  }

  #end(isOver) {
    const over = this.#tracks.filter(isOver);
    this.#tracks = this.#tracks.filter((track) => !over.includes(track));
    const people = over.filter((track) => this.#isPerson(track));
    for (const track of people) addTo(this.#ended, minuteOf(track), outcomeOf(track));
    return people.map((track) => this.#event("gone", track, track.state));
  }

  /** Give each face a track, a new one where none fits. Return pairs ordered by track. */
  #match(time, faces) {
    const pairs = [];
    for (const track of this.#tracks) {
      faces.forEach((face, index) => {
        const overlap = overlapOf(track.box, face.box);
        if (overlap >= this.#rules.min_iou) pairs.push({ overlap, track, index });
      });
    }
    pairs.sort((a, b) => (
      b.overlap - a.overlap || a.track.id - b.track.id || a.index - b.index));
    const matched = new Map();
    const taken = new Set();
    for (const { track, index } of pairs) {
      if (taken.has(track) || matched.has(index)) continue;
      matched.set(index, track);
      taken.add(track);
    }
    faces.forEach((face, index) => {
      if (!matched.has(index)) matched.set(index, this.#begin(face.box, time));
    });
    return [...matched].map(([index, track]) => [track, faces[index]])
      .sort(([a], [b]) => a.id - b.id);
  }

  #begin(box, time) {
    const track = {
      id: this.#nextId++, box, start: time, lastSeen: time, sightings: 0,
      state: null, doubtful: false, decided: false, possible: [], probabilities: {},
      answers: [], candidate: null, since: 0, agreed: null,
    };
    this.#tracks.push(track);
    return track;
  }

  /** Add the answer of a face to the evidence, and forget what is too old. */
  #remember(track, face, time) {
    const rules = this.#rules;
    track.answers = track.answers.filter((each) => time - each.time <= rules.memory_seconds);
    if (face.probabilities && face.unknown === null && face.size >= rules.smallest_face) {
      const weight = share(face.size, rules.full_weight_at * rules.smallest_face)
        * share(face.sharpness, rules.full_weight_at * rules.smallest_sharpness);
      track.answers.push({ time, weight, face });
    }
  }

  /** Weigh the evidence, and change the state of the track where it is due. */
  #judge(track, face, time) {
    const candidate = this.#weigh(track);
    if (track.agreed === null || (candidate !== null && candidate === track.state)) {
      track.agreed = time;
    }
    if (candidate !== track.candidate) {
      track.candidate = candidate;
      track.since = time;
    }
    const before = track.state;
    const isHeld = time - track.since >= this.#rules.hold_seconds;
    if (candidate !== null && candidate !== track.state && isHeld) {
      const kind = track.decided ? "changed" : "decided";
      Object.assign(track, { state: candidate, doubtful: false, decided: true, agreed: time });
      return [this.#event(kind, track, before)];
    }
    if (!track.doubtful && time - track.agreed >= this.#rules.doubt_seconds) {
      Object.assign(track, { state: null, doubtful: true });
      return [this.#event("doubtful", track, before, face.unknown ?? "not sure")];
    }
    return [];
  }

  /** Return the only class that is possible by the evidence, or null. */
  #weigh(track) {
    let total = 0;
    const sums = Object.fromEntries(this.#classes.map((name) => [name, 0]));
    const support = { ...sums };
    for (const { weight, face } of track.answers) {
      total += weight;
      for (const name of this.#classes) {
        sums[name] += weight * face.probabilities[name];
        if (face.possible.includes(name)) support[name] += weight;
      }
    }
    track.probabilities = {};
    track.possible = [];
    if (total === 0) return null;
    let best = this.#classes[0];
    for (const name of this.#classes) {
      track.probabilities[name] = sums[name] / total;
      if (2 * support[name] > total) track.possible.push(name);
      if (track.probabilities[name] > track.probabilities[best]) best = name;
    }
    const isSingle = track.possible.length === 1 && track.possible[0] === best;
    return isSingle && total >= this.#rules.enough_weight ? best : null;
  }

  #event(event, track, before, reason = null) {
    const isNew = event === "decided" || event === "changed";
    return {
      event,
      time: this.#time ?? 0,
      track: track.id,
      state: track.state,
      doubtful: track.doubtful,
      before,
      probability: isNew ? track.probabilities[track.state] : null,
      possible: [...track.possible],
      alarm: isNew && this.#rules.alarm_classes.includes(track.state),
      reason,
      box: [...track.box],
      start: track.start,
      sightings: track.sightings,
    };
  }
}

const minuteOf = (track) => Math.floor(track.start / 60);

function outcomeOf(track) {
  if (track.state !== null) return `is ${track.state}`;
  return track.doubtful ? "doubtful" : "undecided";
}

function addTo(minutes, minute, outcome) {
  const tally = minutes.get(minute) ?? {};
  tally[outcome] = (tally[outcome] ?? 0) + 1;
  minutes.set(minute, tally);
}
