// Elements of a page, and its texts in the language that the address names (#lang=ko). Nothing is
// stored: what a user chooses is in the address.

import { LANGUAGES, setLanguage, text } from "./strings.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, content = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = content;
  if (className) made.className = className;
  return made;
}

/** Return what the address names, such as view and lang. */
export function readAddress() {
  return new URLSearchParams(location.hash.slice(1));
}

/** Name a choice in the address; whoever shows it reads the address then. */
export function setAddress(name, value) {
  const wanted = readAddress();
  wanted.set(name, value);
  history.replaceState(null, "", `#${wanted}`);
}

/** Show all fixed texts in the language of the address, else in the browser's. */
export function showTexts() {
  const named = readAddress().get("lang") ?? navigator.language.slice(0, 2);
  const language = LANGUAGES.includes(named) ? named : "en";
  document.documentElement.lang = language;
  setLanguage(language);
  for (const each of LANGUAGES) {
    $(`lang-${each}`).setAttribute("aria-pressed", String(each === language));
  }
  for (const each of document.querySelectorAll("[data-text]")) {
    each.textContent = text(each.dataset.text);
  }
  for (const each of document.querySelectorAll("[data-label]")) {
    each.setAttribute("aria-label", text(each.dataset.label));
  }
  document.title = document.querySelector("h1").textContent;
}

/** Call `show` whenever another language is chosen, or the address is changed. */
export function onChoice(show) {
  for (const each of LANGUAGES) {
    $(`lang-${each}`).addEventListener("click", () => {
      setAddress("lang", each);
      show();
    });
  }
  window.addEventListener("hashchange", show);
}
