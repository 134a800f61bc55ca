// The list of photos that were chosen or dropped: each with its boxes, and in words what was found.

import { drawBoxes } from "./draw.js";
import { $, element } from "./elements.js";
import { percent, text, wordsFor } from "./strings.js";
import { sayAnswer } from "./words.js";

const SHOWN_SIDE = 640; // longest side of a photo in the list, in pixels; models see all of them

export class Photos {
  #results = [];
  #task = "";

  constructor(engine) {
    this.engine = engine;
  }

  /** Take the name of the task whose answer colours the boxes. */
  setTask(task) {
    this.#task = task;
  }

  /** Answer for files one after the other, the newest first in the list. */
  async add(files) {
    $("results").hidden = false;
    for (const file of files) {
      $("results-status").textContent = `${text("working")} ${file.name}`;
      const result = { name: file.name, faces: [], picture: null };
      try {
        const bitmap = await createImageBitmap(file, {
          imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none",
        });
        result.picture = shrunk(bitmap);
        Object.assign(result, await this.engine.ask("photo", { bitmap }, [bitmap]));
      } catch (error) {
        console.warn(`${file.name}: ${error.message}`);
        result.failed = true;
      }
      this.#results.unshift(result);
      this.render();
    }
    $("results-status").textContent = `${text("photosDone")} ${this.#results.length}`;
  }

  /** Show all results, also after a change of the language. */
  render() {
    $("photo-list").replaceChildren(...this.#results.map((result) => this.#item(result)));
  }

  #item({ name, faces, picture, failed }) {
    const item = element("li");
    item.append(element("h3", name));
    if (failed) item.append(element("p", text("unreadable")));
    if (failed || !picture) return item;
    const said = faces.map((face) => sayAnswer(face, this.#task));
    item.append(this.#figure(picture, faces, said));
    if (!faces.length) item.append(element("p", text("noFace")));
    const list = element("ol");
    list.append(...faces.map((face, i) => this.#face(face, said[i])));
    if (faces.length) item.append(list);
    return item;
  }

  #figure({ canvas, scale }, faces, said) {
    const figure = element("div", "", "picture");
    const overlay = element("canvas");
    const label = (i) => (faces.length > 1 ? `${i + 1} ${said[i].label}` : said[i].label);
    drawBoxes(overlay, canvas.width, canvas.height, faces.map(({ box }, i) => ({
      box: [box.x0, box.y0, box.x1, box.y1].map((side) => side * scale),
      kind: said[i].kind,
      label: label(i),
    })));
    overlay.setAttribute("aria-hidden", "true");
    canvas.setAttribute("aria-hidden", "true");
    figure.append(canvas, overlay);
    return figure;
  }

  #face(face, { kind, label }) {
    const item = element("li", "", kind);
    item.append(element("strong", label));
    const tasks = element("ul");
    for (const [task, { probabilities }] of Object.entries(face.answers)) {
      const shares = Object.entries(probabilities)
        .map(([name, share]) => `${wordsFor("classes", name)} ${percent(share)}`).join(", ");
      tasks.append(element("li", `${wordsFor("tasks", task)}: ${shares}`));
    }
    item.append(tasks);
    return item;
  }
}

/** Return a small copy of a photo for the list; the networks see the photo itself. */
function shrunk(bitmap) {
  const scale = Math.min(1, SHOWN_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return { canvas, scale };
}
