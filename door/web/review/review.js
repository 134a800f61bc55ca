// The page that labels the crops of doubtful tracks, one key for each. Every label is saved before
// the next photo comes; nothing is stored in the browser.

import { $, onChoice, readAddress, setAddress, showTexts } from "./elements.js";
import { forget, photoOf } from "./photos.js";
import { RefusedError, deleteCrop, listCrops, saveLabels, setKey } from "./requests.js";
import { text, wordsFor } from "./strings.js";
import { say, showCaption, showChoices, showPart, showProgress, showRemove, showTaskBoxes } from "./view.js";

const POLL_SECONDS = 10; // other pages label the same folder, and watch adds to it
let tasks = {}; // task -> names of its classes
let crops = [];
let at = -1; // index of the crop that is shown; -1 without one
let current = ""; // the task that the number keys label
let isFinished = false; // whether "all are labelled" is shown instead of a crop
let shown = { id: "", photo: null }; // the picture that the user sees
let sure = ""; // id of the crop that the next press deletes
let changes = 0; // number of changes until now: a list from before the newest is not shown
let isBusy = false;
let isLoaded = false; // whether there was a list
let isDown = false; // whether the newest request did not reach the server
const done = []; // {id, task, before} of each label, the newest last

/** Return the tasks to label: those in the address (#tasks=mask,age), else all. */
function asked() {
  const all = Object.keys(tasks);
  const named = (readAddress().get("tasks") ?? "").split(",");
  const chosen = all.filter((task) => named.includes(task));
  return chosen.length ? chosen : all;
}

const openTask = (crop) => asked().find((task) => !crop.labels[task]);

/** Return the index of the first of `count` crops from `start` on without a label; -1 for none. */
function findOpen(start, count) {
  for (let step = 0; step < count; step++) {
    const index = (start + step) % crops.length;
    if (openTask(crops[index])) return index;
  }
  return -1;
}

/** Return the index of the next other crop without a label; -1 for none. */
const nextOpen = () => findOpen(at + 1, crops.length - 1);

function go(index) {
  at = index;
  current = openTask(crops[at]) ?? asked()[0];
  isFinished = false;
}

/** Go to the next task of this crop without a label, else to the next such crop. */
function advance() {
  const later = asked().slice(asked().indexOf(current) + 1);
  const task = later.find((each) => !crops[at].labels[each]);
  const next = nextOpen();
  if (task) current = task;
  else if (next >= 0) go(next);
  else if (openTask(crops[at])) go(at);
  else isFinished = true;
}

async function label(name) {
  const crop = crops[at];
  const task = current;
  if (!crop || isFinished || shown.id !== crop.id) return; // nobody labels what was not seen
  const before = crop.labels[task];
  crops[at] = await saveLabels(crop.id, { [task]: name });
  done.push({ id: crop.id, task, before });
  say(text("saved", wordsFor("tasks", task), wordsFor("classes", name)));
  advance();
}

function skip() {
  if (at < 0 || isFinished) return;
  const { id } = crops[at];
  const task = current;
  advance();
  say(id === crops[at].id && task === current ? text("onlyOne") : "");
}

async function undo() {
  const last = done.at(-1);
  if (!last) return say(text("noUndo"));
  const saved = await saveLabels(last.id, { [last.task]: last.before });
  done.pop();
  const index = crops.findIndex(({ id }) => id === last.id);
  crops[index] = saved;
  go(index);
  if (asked().includes(last.task)) current = last.task;
  return say(text("undone"));
}

async function remove() {
  const crop = crops[at];
  if (!crop || isFinished) return;
  if (sure !== crop.id) {
    sure = crop.id;
    say(text("removeSure"));
    return;
  }
  await deleteCrop(crop.id);
  drop(crop.id);
  say(text("removed"));
}

/** Take in a new list of crops, and stay at the place. */
function take(list) {
  const old = crops[at];
  crops = list;
  const gone = done.filter(({ id }) => !list.some((crop) => crop.id === id));
  for (const each of gone) done.splice(done.indexOf(each), 1);
  const here = list.findIndex(({ id }) => id === old?.id);
  if (here >= 0 && !isFinished) {
    at = here;
    return;
  }
  const start = Math.max(0, list.findIndex(({ id }) => id >= (old?.id ?? "")));
  const open = findOpen(start, list.length);
  if (open >= 0) return go(open);
  at = list.length ? start : -1;
  isFinished = true;
}

function move(step) {
  if (at < 0) return;
  const next = isFinished ? at : at + step;
  if (next >= 0 && next < crops.length) go(next);
  say("");
}

/** Forget a crop that is gone. */
function drop(id) {
  forget(id);
  take(crops.filter((crop) => crop.id !== id));
}

function moveTask(step) {
  const next = asked()[asked().indexOf(current) + step];
  if (next) current = next;
}

/** Do one thing at a time; what comes meanwhile is dropped, since it was meant for another crop. */
async function act(work) {
  if (isBusy) return;
  isBusy = true;
  document.body.dataset.busy = "yes";
  changes += 1;
  const armed = sure;
  try {
    await work();
  } catch (error) {
    fail(error);
  }
  if (sure === armed) sure = "";
  isBusy = false;
  delete document.body.dataset.busy;
  render();
}

function fail(error) {
  if (error instanceof RefusedError && error.status === 401) {
    showPart("key-form");
    say(text("keyWrong"), "bad");
    isLoaded = false;
    $("key").focus();
    return;
  }
  console.error(error);
  if (error instanceof RefusedError && error.status === 404 && error.crop) {
    drop(error.crop);
    say(text("lost"), "bad");
  } else if (error instanceof RefusedError) {
    say(text("notSaved", error.message), "bad");
  } else {
    isDown = true;
    say(text("unreachable"), "bad");
  }
}

/** Take in the server's list; return whether something has to be shown. */
async function reload() {
  const before = changes;
  const list = await listCrops();
  if (isDown) say("");
  const isSame = JSON.stringify(list.crops) === JSON.stringify(crops) && isLoaded && !isDown;
  isDown = false;
  if (before !== changes || isSame) return false; // or a label was saved meanwhile
  ({ tasks } = list);
  isLoaded = true;
  take(list.crops);
  return true;
}

function render() {
  $("controls").hidden = at < 0 || !isLoaded;
  if (!isLoaded) return;
  showTaskBoxes(Object.keys(tasks), asked(), (chosen) => {
    setAddress("tasks", chosen.join(","));
    act(() => at >= 0 && go(at));
  });
  showProgress(crops.filter((crop) => !openTask(crop)).length, crops.length);
  for (const id of ["next", "skip", "remove"]) $(id).hidden = isFinished;
  showRemove(sure !== "" && sure === crops[at]?.id);
  if (at < 0) showPart("message", { title: text("nothing"), more: text("nothingMore") });
  else if (isFinished) showPart("message", { title: text("allDone"), more: text("allDoneMore"), kind: "good" });
  else showCrop();
}

function showCrop() {
  const crop = crops[at];
  if (!asked().includes(current)) current = openTask(crop) ?? asked()[0];
  showPart("work");
  showCaption(crop, at + 1, crops.length);
  const photo = shown.id === crop.id ? shown.photo : null;
  showChoices({ tasks, asked: asked(), current, crop, photo }, (name) => act(() => label(name)),
    (task) => act(() => { current = task; }));
  if (!photo) showPhoto(crop);
}

async function showPhoto({ id }) {
  $("photo").removeAttribute("src");
  delete $("photo").dataset.crop;
  try {
    const photo = await photoOf(id, () => shown.id === id && render());
    if (crops[at]?.id !== id || isFinished) return;
    $("photo").src = photo.url;
    await $("photo").decode();
    if (crops[at]?.id !== id) return;
    shown = { id, photo };
    $("photo").dataset.crop = id;
    render();
    const next = nextOpen();
    if (next >= 0) photoOf(crops[next].id, (each) => shown.id === each && render()).catch(() => {});
  } catch (error) {
    if (crops[at]?.id === id) act(() => { throw error; });
  }
}

const KEYS = {
  " ": skip, 0: skip, Backspace: undo, u: undo, Delete: remove, x: remove,
  ArrowLeft: () => move(-1), ArrowRight: () => move(1),
  ArrowUp: () => moveTask(-1), ArrowDown: () => moveTask(1),
};

/** Return the key by name; letters and digits also where another script or layout is active. */
function keyOf({ key, code }) {
  if (key in KEYS || /^[1-9a-z]$/.test(key)) return key;
  return /^(?:Key|Digit|Numpad)(.)$/.exec(code)?.[1].toLowerCase() ?? key;
}

function onKey(event) {
  const key = keyOf(event);
  const isNative = event.target.closest("button, input") && [" ", "Enter"].includes(key);
  if (!$("keys").checked || event.target === $("key") || isNative || event.repeat
    || event.ctrlKey || event.altKey || event.metaKey || at < 0 || !isLoaded) return;
  const name = tasks[current]?.[Number(key) - 1];
  const work = KEYS[key] ?? (name && (() => label(name)));
  if (!work) return;
  event.preventDefault();
  act(work);
}

function listen() {
  onChoice(showAll);
  for (const [id, work] of Object.entries({ skip, undo, remove, back: () => move(-1), next: () => move(1) })) {
    $(id).addEventListener("click", () => act(work));
  }
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", ({ target, detail }) => {
    if (detail > 0) target.closest("button")?.blur(); // after a click of the mouse, keys are ours
  });
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setKey($("key").value);
    $("key").value = "";
    say("");
    act(reload);
  });
  const refresh = () => document.hidden || isBusy || !isLoaded
    || reload().then((isNew) => isNew && render(), (error) => act(() => { throw error; }));
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, 1000 * POLL_SECONDS);
}

function showAll() {
  showTexts();
  render();
}

listen();
showAll();
act(reload);
