// Leafs through the samples of all runs. Data come from scripts that call `awares.start` and `awares.page`, since a page
// opened from file:// may not fetch. What one sample looks like is in sample.js.
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
    buildFilters();
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

function buildFilters() {
  const { tasks, runs, statuses } = awares.index;
  const options = (name, pairs) =>
    form[name].append(...pairs.map(([value, textContent]) => element("option", { value, textContent })));
  options("task", [["", "all"], ...tasks.map((task, i) => [i, task])]);
  options("run", runs.map((run, i) => [i, run]));
  options("other", [["", "no other run"], ...runs.map((run, i) => [i, run])]);
  const pair = runs.length > 1; // a single run has none to be beside of, or to disagree with
  for (const name of ["other", "disagree"]) form[name].parentElement.hidden = !pair;
  byId("pair-keys").hidden = !pair;
  options("status", [["", "any"], ...statuses.map((status, i) => [i, status === "none" ? "no attempt" : status])]);
}

function right(answer) {
  return answer[0] === null ? null : answer[0] >= awares.index.right;
}

function disagrees(kind, mine, others) {
  if (!mine || !others || right(mine) === null || right(others) === null || right(mine) === right(others)) return false;
  return kind === "differ" || right(mine) === (kind === "worse");
}

function matcher() {
  const { statuses } = awares.index;
  const called = [statuses.indexOf("valid"), statuses.indexOf("recovered")];
  const failed = statuses.indexOf("failed");
  const { task, run, call, result, status, other, disagree } = Object.fromEntries(new FormData(form));
  return ([ofTask, , ...answers]) => {
    const mine = answers[run];
    if (task !== "" && ofTask !== Number(task)) return false;
    if (!mine) return false;
    if (call !== "" && called.includes(mine[1]) !== (call === "yes")) return false;
    if (result === "failed" && mine[1] !== failed) return false;
    if (result !== "" && result !== "failed" && right(mine) !== (result === "right")) return false;
    if (status !== "" && mine[1] !== Number(status)) return false;
    return disagree === "" || disagrees(disagree, mine, answers[other]);
  };
}

// Filter again. `name` (task/document): what to show if it is among the matches; else the first match. `isStep`: a
// person's choice, which the back button takes back.
function refresh(name, isStep = false) {
  const fits = matcher();
  awares.matches = awares.index.documents.flatMap((entry, position) => (fits(entry) ? [position] : []));
  const found = awares.matches.findIndex((position) => nameOf(position) === name);
  awares.at = Math.max(0, found);
  setAddress(current(), isStep);
  show();
}

const nameOf = (position) => {
  const [task, doc] = awares.index.documents[position];
  return `${awares.index.tasks[task]}/${doc}`;
};

// --- the list

function showList() {
  const { matches, at, index } = awares;
  const first = Math.floor(at / LISTED) * LISTED;
  const shown = matches.slice(first, first + LISTED);
  byId("count").textContent = `${matches.length} of ${index.documents.length} samples`;
  const focused = byId("list").contains(document.activeElement); // the list is made anew: its focus goes along
  byId("list").start = first + 1;
  byId("list").replaceChildren(
    ...shown.map((position, i) => {
      const button = element("button", { type: "button", onclick: () => go(first + i, true) });
      button.append(nameOf(position), " ", ...[form.run.value, form.other.value].map((run) => marks(position, run)));
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

function marks(position, run) {
  const answer = run === "" ? null : awares.index.documents[position][2 + Number(run)];
  if (!answer) return element("span");
  const status = awares.index.statuses[answer[1]];
  const verdict = verdictOf(answer[0], status);
  const call = ["valid", "recovered"].includes(status) ? " crop" : status === "invalid" ? " crop?" : "";
  return element("span", { className: verdict, title: verdict, textContent: SIGNS[verdict] + call });
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
    byId("sample").replaceChildren(element("p", { className: "note", textContent: "No sample matches the filters." }));
    return;
  }
  const page = pageOf(position);
  if (!awares.pages.has(page)) {
    load(page);
    return;
  }
  const record = awares.pages.get(page)[position % awares.index.page];
  const runs = [form.run.value, form.other.value].filter((run, i, all) => run !== "" && all.indexOf(run) === i);
  byId("sample").replaceChildren(
    element(
      "div",
      { className: "first" },
      element("h2", { textContent: nameOf(position) }),
      ...summary(record, runs),
      legend(record, runs),
      pictures(record, runs),
    ),
    element("div", { className: "runs" }, ...runs.map((run) => details(record, run))),
  );
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

const current = () => (awares.matches.length ? nameOf(awares.matches[awares.at]) : "");

function swapRuns() {
  if (form.other.value === "") return;
  [form.run.value, form.other.value] = [form.other.value, form.run.value];
  refresh(current(), true);
}

function toggleDisagreements() {
  if (awares.index.runs.length < 2) return;
  form.disagree.value = form.disagree.value === "" ? "differ" : "";
  chooseOther();
  refresh(current(), true);
}

// Disagreement needs a second run: where none is chosen, the next one is.
function chooseOther() {
  if (form.disagree.value === "" || !["", form.run.value].includes(form.other.value)) return;
  form.other.value = String((Number(form.run.value) + 1) % awares.index.runs.length);
}

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
  f: () => form.task.focus(),
  r: swapRuns,
  d: toggleDisagreements,
  x: () => form.reset(),
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
  chooseOther();
  refresh(current(), true);
});
form.addEventListener("reset", () => setTimeout(() => refresh(current(), true)));
byId("overlay").addEventListener("change", (event) => setOverlay(event.target.checked));
byId("back").addEventListener("click", () => go(awares.at - 1));
byId("next").addEventListener("click", () => go(awares.at + 1));
byId("page-back").addEventListener("click", () => go((Math.floor(awares.at / LISTED) - 1) * LISTED));
byId("page-on").addEventListener("click", () => go((Math.floor(awares.at / LISTED) + 1) * LISTED));
window.addEventListener("hashchange", () => refresh(readAddress()));
