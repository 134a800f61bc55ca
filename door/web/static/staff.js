// The panel for the staff: counts of people, who is in the picture now, and the events. It keeps
// them in memory alone; closing the page forgets them.

import { $, element } from "./elements.js";
import { clock, text, wordsFor } from "./strings.js";
import { sayEvent, sayTrack } from "./words.js";

const MOST_EVENTS = 200;

export class Staff {
  #classes = [];
  #events = []; // {event, date}, the newest first
  #past = new Map(); // outcome -> people of earlier starts of the camera
  #counts = [];
  #live = null;
  #shown = "";

  /** Take the names of the classes that are counted. */
  setClasses(classes) {
    this.#classes = classes;
  }

  /** Take in the worker's answer to a frame. */
  update(result) {
    this.#live = result;
    this.#counts = result.counts;
    this.#addEvents(result.events);
    this.#showCounts();
    this.#showNow();
  }

  /** Take in the worker's answer to the end of the camera. */
  end({ events, counts }) {
    this.#live = null;
    this.#addEvents(events);
    for (const [outcome, count] of this.#tally(counts)) {
      this.#past.set(outcome, (this.#past.get(outcome) ?? 0) + count);
    }
    this.#counts = [];
    this.#showCounts();
    this.#showNow();
  }

  /** Show everything again, after a change of the language. */
  render() {
    this.#shown = "";
    this.#showCounts();
    this.#showNow();
    this.#showEvents();
  }

  #addEvents(events) {
    if (!events.length) return;
    const date = new Date();
    this.#events.unshift(...events.map((event) => ({ event, date })).reverse());
    this.#events.length = Math.min(this.#events.length, MOST_EVENTS);
    this.#showEvents();
  }

  /** Return pairs (outcome, number of people) of some minutes. */
  #tally(minutes) {
    const outcomes = [...this.#classes, "doubtful", "undecided"];
    const of = (minute, name) => minute.classes[name] ?? minute[name];
    return outcomes.map((name) => [name, minutes.reduce((sum, each) => sum + of(each, name), 0)]);
  }

  #showCounts() {
    const minute = Math.floor(performance.now() / 60000);
    const recent = this.#tally(this.#counts.filter((each) => each.minute === minute));
    const rows = this.#tally(this.#counts).map(([name, count], i) => (
      [name, recent[i][1], count + (this.#past.get(name) ?? 0)]));
    const total = (column) => rows.reduce((sum, row) => sum + row[column], 0);
    const shown = JSON.stringify(rows);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const line = (label, ...numbers) => {
      const row = element("tr");
      const head = element("th", label);
      head.scope = "row";
      row.append(head, ...numbers.map((number) => element("td", String(number))));
      return row;
    };
    $("counts").tBodies[0].replaceChildren(
      ...rows.map(([name, now, all]) => line(wordsFor("classes", name), now, all)),
      line(text("total"), total(1), total(2)),
    );
  }

  #showNow() {
    const present = this.#live?.tracks.filter(({ seen }) => seen) ?? [];
    const items = present.map((track) => {
      const { kind, label } = sayTrack(track, this.#live.smallest);
      return element("li", `${text("person")} ${track.id}: ${label}`, kind);
    });
    $("now").replaceChildren(...(items.length ? items : [element("li", text("nobodyNow"))]));
  }

  #showEvents() {
    const items = this.#events.map(({ event, date }) => {
      const item = element("li", "", event.alarm ? "alarm" : "");
      item.append(element("time", clock(date)), ` ${sayEvent(event, this.#classes)}`);
      if (event.alarm) item.append(" ", element("strong", text("alarm")));
      return item;
    });
    $("events").replaceChildren(...(items.length ? items : [element("li", text("noEvents"))]));
  }
}
