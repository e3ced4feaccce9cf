// Leafs through documents. Data come from scripts that call `awares.start` and `awares.page`, since a page opened from
// file:// may not fetch. What the documents are is in `kind`, which a script before this one sets: runs.js (samples of
// runs) or curated.js (rows of a curated set). It has
//   filters: names of the form's fields; named: lists of the index that a field's value is a number in, by field
//   build(): fills the form; matcher(): which entries of the index fit it; settle(): mends the form after a choice
//   name(position), marks(position): of an entry in the list; draw(record, name): elements that show a document
//   keys: further keys; unit: what a document is called
"use strict";

const byId = (id) => document.getElementById(id);
const LISTED = 100; // documents in one page of the list

const awares = {
  index: null,
  pages: new Map(), // number -> documents
  matches: [], // positions in index.documents
  at: 0, // which match is shown

  start(index) {
    this.index = index;
    kind.build();
    refresh(readAddress());
  },

  page(number, documents) {
    this.pages.set(number, documents);
    show();
  },
};
window.awares = awares;

// --- filters

const form = byId("filters");

// Filter again. `name` (task/document): what to show if it is among the matches; else the first match. `isStep`: a
// person's choice, which the back button takes back.
function refresh(name, isStep = false) {
  const fits = kind.matcher();
  awares.matches = awares.index.documents.flatMap((entry, position) => (fits(entry) ? [position] : []));
  const found = awares.matches.findIndex((position) => kind.name(position) === name);
  awares.at = Math.max(0, found);
  setAddress(current(), isStep);
  show();
}

// --- the list

function showList() {
  const { matches, at, index } = awares;
  const first = Math.floor(at / LISTED) * LISTED;
  const shown = matches.slice(first, first + LISTED);
  byId("count").textContent = `${matches.length} of ${index.documents.length} ${kind.unit}s`;
  const focused = byId("list").contains(document.activeElement); // the list is made anew: its focus goes along
  byId("list").start = first + 1;
  byId("list").replaceChildren(
    ...shown.map((position, i) => {
      const button = element("button", { type: "button", onclick: () => go(first + i, true) });
      button.append(kind.name(position), " ", ...kind.marks(position));
      if (first + i === at) button.setAttribute("aria-current", "true");
      return element("li", {}, button);
    }),
  );
  byId("page").textContent = `page ${first / LISTED + 1} of ${Math.max(1, Math.ceil(matches.length / LISTED))}`;
  byId("page-back").disabled = first === 0;
  byId("page-on").disabled = first + LISTED >= matches.length;
  const current = document.querySelector("[aria-current]");
  current?.scrollIntoView({ block: "nearest" });
  if (focused) current?.focus();
}

function go(to, isStep = false) {
  awares.at = Math.min(Math.max(to, 0), Math.max(0, awares.matches.length - 1));
  setAddress(current(), isStep);
  show();
}

// --- one sample

function show() {
  showList();
  const position = awares.matches[awares.at];
  byId("back").disabled = awares.at === 0;
  byId("next").disabled = awares.at >= awares.matches.length - 1;
  if (position === undefined) {
    byId("sample").replaceChildren(element("p", { className: "note", textContent: `No ${kind.unit} matches the filters.` }));
    return;
  }
  const page = pageOf(position);
  if (!awares.pages.has(page)) {
    load(page);
    return;
  }
  const record = awares.pages.get(page)[position % awares.index.page];
  byId("sample").replaceChildren(...kind.draw(record, kind.name(position)));
  byId("sample").scrollTop = 0;
}

const pageOf = (position) => Math.floor(position / awares.index.page);
const asked = new Set();

function load(page) {
  byId("sample").replaceChildren(element("p", { className: "note", textContent: "Loading …" }));
  if (asked.has(page)) return;
  asked.add(page);
  const script = element("script", { src: `data/${page}.js` });
  script.onerror = () => {
    asked.delete(page); // the next visit tries again
    script.remove();
    if (pageOf(awares.matches[awares.at]) !== page) return; // another sample is shown by now
    byId("sample").replaceChildren(
      element("p", { className: "warning", textContent: `data/${page}.js is missing; build the report again.` }),
    );
  };
  document.head.append(script);
}

// --- actions

const current = () => (awares.matches.length ? kind.name(awares.matches[awares.at]) : "");

function setOverlay(on) {
  byId("overlay").checked = on;
  document.body.classList.toggle("plain", !on);
}

const KEYS = {
  j: () => go(awares.at + 1),
  k: () => go(awares.at - 1),
  ArrowRight: () => go(awares.at + 1),
  ArrowLeft: () => go(awares.at - 1),
  o: () => setOverlay(!byId("overlay").checked),
  f: () => form[kind.filters[0]].focus(),
  x: () => form.reset(),
  ...kind.keys,
};

document.addEventListener("keydown", (event) => {
  if (byId("enlarged").open) return; // Escape closes it by itself
  const typing = event.target.matches("select") && event.key !== "Escape";
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") event.target.blur();
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
// Chosen with the mouse, a filter gives the keys back; by keyboard, the next key still belongs to it.
let typed = false;
form.addEventListener("keydown", () => (typed = true));
form.addEventListener("pointerdown", () => (typed = false));
form.addEventListener("change", (event) => {
  if (!typed) event.target.blur();
  kind.settle();
  refresh(current(), true);
});
form.addEventListener("reset", () => setTimeout(() => refresh(current(), true)));
byId("overlay").addEventListener("change", (event) => setOverlay(event.target.checked));
byId("back").addEventListener("click", () => go(awares.at - 1));
byId("next").addEventListener("click", () => go(awares.at + 1));
byId("page-back").addEventListener("click", () => go((Math.floor(awares.at / LISTED) - 1) * LISTED));
byId("page-on").addEventListener("click", () => go((Math.floor(awares.at / LISTED) + 1) * LISTED));
window.addEventListener("hashchange", () => refresh(readAddress()));
