// What the page that labels crops shows: the photo, the classes of each task, and how far it is.

import { $, element } from "./elements.js";
import { day, percent, text, wordsFor } from "./strings.js";

/** Say something, also to a screen reader. */
export function say(words, kind = "") {
  $("said").textContent = words;
  $("said").className = `said ${kind}`;
}

/** Show one part of the page: `work`, `message` or `key-form`. */
export function showPart(part, { title = "", more = "", kind = "idle" } = {}) {
  for (const each of ["work", "message", "key-form"]) $(each).hidden = each !== part;
  $("message").dataset.kind = kind;
  $("message-title").textContent = title;
  $("message-more").textContent = more;
  document.body.dataset.state = part;
}

export function showProgress(done, total) {
  $("progress").parentElement.hidden = !total;
  $("progress-text").textContent = text("progress", done, total);
  $("progress").max = Math.max(total, 1);
  $("progress").value = done;
}

/** Show which photo this is, and when it was taken; a screen reader reads the place aloud once. */
export function showCaption(crop, place, total) {
  const words = text("photoOf", place, total);
  if ($("place").textContent !== words) $("place").textContent = words;
  $("taken").textContent = text("taken", day(crop.taken));
  $("expires").textContent = crop.expires === null ? text("noExpiry") : text("expires", day(crop.expires));
  $("photo").alt = words;
}

/** Put elements in the place of others; the one with the same `data-name` keeps the focus. */
function replace(parent, children) {
  const focused = parent.contains(document.activeElement) && document.activeElement.dataset.name;
  parent.replaceChildren(...children);
  if (!focused) return;
  (parent.querySelector(`[data-name="${CSS.escape(focused)}"]`) ?? parent.querySelector("button"))?.focus();
}

/** Show the boxes that choose the tasks; `onChange` gets the names of the chosen ones. */
export function showTaskBoxes(tasks, asked, onChange) {
  if (tasks.length < 2) return;
  $("tasks").hidden = false;
  replace($("task-boxes"), tasks.map((task) => {
    const label = element("label", "", "check");
    const box = element("input");
    box.type = "checkbox";
    box.dataset.name = task;
    box.checked = asked.includes(task);
    box.disabled = box.checked && asked.length === 1;
    box.addEventListener("change", () => onChange(tasks.filter((each) => (
      each === task ? box.checked : asked.includes(each)))));
    label.append(box, ` ${wordsFor("tasks", task)}`);
    return label;
  }));
}

/**
 * Show the tasks: the classes of the current one as buttons, with the model's probabilities, and
 * the labels of the others.
 *
 * @param current the task that the number keys label.
 * @param onClass it gets the class that was chosen for this task.
 * @param onTask it gets the task that is to be labelled now.
 */
export function showChoices({ tasks, asked, current, crop, photo }, onClass, onTask) {
  replace($("choices"), asked.map((task) => {
    const label = crop.labels[task];
    if (task === current) return taskGroup(task, tasks[task], label, photo, onClass);
    const words = label ? wordsFor("classes", label) : "—";
    const button = element("button", `${wordsFor("tasks", task)}: ${words}`, "task");
    button.type = "button";
    button.dataset.name = task;
    button.addEventListener("click", () => onTask(task));
    return button;
  }));
  $("model").textContent = sayModel(photo);
}

function taskGroup(task, classes, label, photo, onClass) {
  const probabilities = photo?.face?.answers[task]?.probabilities ?? {};
  const group = element("fieldset");
  group.append(element("legend", wordsFor("tasks", task)));
  group.append(...classes.map((name, i) => {
    const button = classButton(name, i + 1, probabilities[name], name === label);
    button.addEventListener("click", () => onClass(name));
    return button;
  }));
  if (label && !classes.includes(label)) group.append(element("p", text("otherLabel", label), "note"));
  return group;
}

function classButton(name, number, share, isChosen) {
  const button = element("button", "", "class");
  button.type = "button";
  button.dataset.name = number;
  button.setAttribute("aria-pressed", String(isChosen));
  const key = element("kbd", number <= 9 ? String(number) : "");
  key.setAttribute("aria-hidden", "true");
  if (number <= 9) button.setAttribute("aria-keyshortcuts", String(number));
  const bar = element("progress");
  bar.value = share ?? 0;
  bar.setAttribute("aria-hidden", "true");
  const shown = share === undefined ? "" : percent(share);
  button.append(key, element("span", wordsFor("classes", name)), element("span", shown, "share"), bar);
  return button;
}

function sayModel(photo) {
  if (!photo?.isJudged) return "…";
  if (!photo.face) return text("noFace");
  const { unknown } = photo.face;
  return unknown ? text("unjudged", wordsFor("reasons", unknown)) : text("shares");
}

/** Show whether the next press deletes the photo. */
export function showRemove(isSure) {
  $("remove").textContent = text(isSure ? "removeSure" : "remove");
  $("remove").classList.toggle("sure", isSure);
}
