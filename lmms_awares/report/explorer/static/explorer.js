// Leafs through the samples of all runs. Data come from scripts that call `awares.start` and `awares.page`, since a page
// opened from file:// may not fetch. Texts of models are only ever set as text, never as markup.
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
    refresh(location.hash.slice(1));
  },

  page(number, documents) {
    this.pages.set(number, documents);
    show();
  },
};
window.awares = awares;

// --- elements

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function drawing(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

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

// Filter again. `name` (task/document): what to show if it is among the matches; else the first match.
function refresh(name) {
  const fits = matcher();
  awares.matches = awares.index.documents.flatMap((entry, position) => (fits(entry) ? [position] : []));
  const found = awares.matches.findIndex((position) => nameOf(position) === name);
  awares.at = Math.max(0, found);
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
  byId("list").start = first + 1;
  byId("list").replaceChildren(
    ...shown.map((position, i) => {
      const button = element("button", { type: "button", onclick: () => go(first + i) });
      button.append(nameOf(position), " ", ...[form.run.value, form.other.value].map((run) => marks(position, run)));
      if (first + i === at) button.setAttribute("aria-current", "true");
      return element("li", {}, button);
    }),
  );
  byId("page").textContent = `page ${first / LISTED + 1} of ${Math.max(1, Math.ceil(matches.length / LISTED))}`;
  byId("page-back").disabled = first === 0;
  byId("page-on").disabled = first + LISTED >= matches.length;
  document.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

function marks(position, run) {
  const answer = run === "" ? null : awares.index.documents[position][2 + Number(run)];
  if (!answer) return element("span");
  const status = awares.index.statuses[answer[1]];
  const verdict = verdictOf(answer[0], status);
  const call = ["valid", "recovered"].includes(status) ? " crop" : status === "invalid" ? " crop?" : "";
  return element("span", { className: verdict, title: verdict, textContent: SIGNS[verdict] + call });
}

const SIGNS = { right: "✓", wrong: "✗", failed: "!", unscored: "·" };

function verdictOf(score, status) {
  if (status === "failed") return "failed";
  return score === null ? "unscored" : score >= awares.index.right ? "right" : "wrong";
}

function go(to) {
  awares.at = Math.min(Math.max(to, 0), Math.max(0, awares.matches.length - 1));
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
  const page = Math.floor(position / awares.index.page);
  if (!awares.pages.has(page)) {
    load(page);
    return;
  }
  history.replaceState(null, "", `#${nameOf(position)}`);
  const record = awares.pages.get(page)[position % awares.index.page];
  const runs = [form.run.value, form.other.value].filter((run, i, all) => run !== "" && all.indexOf(run) === i);
  byId("sample").replaceChildren(
    element("h2", { textContent: nameOf(position) }),
    element("p", { className: "question", textContent: record.question }),
    element("p", {}, element("b", { textContent: "expected " }), element("code", { textContent: record.target })),
    ...pictures(record, runs),
    element("div", { className: "runs" }, ...runs.map((run) => answer(record, run))),
  );
  byId("sample").scrollTop = 0;
}

const asked = new Set();

function load(page) {
  byId("sample").replaceChildren(element("p", { className: "note", textContent: "Loading …" }));
  if (asked.has(page)) return;
  asked.add(page);
  const script = element("script", { src: `data/${page}.js` });
  script.onerror = () =>
    byId("sample").replaceChildren(
      element("p", { className: "warning", textContent: `data/${page}.js is missing; build the report again.` }),
    );
  document.head.append(script);
}

const size = ([width, height]) => `${width}×${height} px`;

function pictures(record, runs) {
  const view = record.view;
  if (view.missing) return [element("p", { className: "warning", textContent: `No picture: ${view.missing}.` })];
  const reduced = view.scale < 1 ? `, shown at ${Math.round(100 * view.scale)} %` : "";
  const [width, height] = view.whole;
  const whole = part(view, [0, 0, width, height], "the whole image");
  whole.append(boxes(record, runs));
  const low = part(view, view.lowres ? [0, height, ...view.lowres] : [0, 0, width, height], "the low-res view");
  const words = view.lowres
    ? `low-res view ${size(view.lowres_size)}${reduced}`
    : "the low-res view is the full view: nothing to save";
  const note = `image ${size(view.size)}, full view ${size(view.full_size)}${reduced}`;
  return [
    element(
      "div",
      { className: "pictures" },
      element("figure", {}, whole, element("figcaption", {}, note), legend(record, runs)),
      element("figure", {}, low, element("figcaption", {}, words)),
    ),
  ];
}

// A part of the document's picture file; `box`: left, top, width, height in its pixels.
function part(view, box, label) {
  const [width, height] = view.sheet;
  const shown = drawing("svg", { viewBox: box.join(" "), role: "img", "aria-label": label });
  shown.append(drawing("image", { href: view.file, width, height }));
  return shown;
}

const scaled = (view, [left, top, w, h]) => {
  const [width, height] = view.whole;
  return [left * width, top * height, w * width, h * height];
};

function cropsOf(record, run) {
  return (record.runs[run]?.trace?.crops ?? []).map((crop) => crop.id);
}

function boxes(record, runs) {
  const view = record.view;
  const group = drawing("g", { class: "boxes" });
  const add = (kind, box, title) => {
    const [x, y, width, height] = scaled(view, box);
    group.append(drawing("rect", { x, y, width, height, class: kind }, drawing("title", {}, title)));
  };
  runs.forEach((run, i) => {
    for (const id of cropsOf(record, run)) add(`requested run${i}`, view.boxes[id], `requested: ${id}`);
  });
  for (const id of view.oracle) add("oracle", view.boxes[id], `oracle: ${id}`);
  if (view.evidence) add("evidence", view.evidence, "where the answer is");
  return group;
}

function legend(record, runs) {
  const list = element("ul", { className: "legend" });
  const entry = (kind, text) => list.append(element("li", { className: kind, textContent: text }));
  runs.forEach((run, i) => {
    const ids = cropsOf(record, run);
    if (ids.length) entry(`requested run${i}`, `${awares.index.runs[run]} saw crop ${ids.join(", ")}`);
  });
  if (record.view.oracle.length) entry("oracle", `an oracle asks for ${record.view.oracle.join(", ")}`);
  if (record.view.suffices === true) entry("", "the low-res view suffices");
  if (record.view.evidence) entry("evidence", "where the answer is");
  return list;
}

function answer(record, run) {
  const found = record.runs[run];
  const panel = element("section", {}, element("h3", { textContent: awares.index.runs[run] }));
  if (!found) {
    panel.append(element("p", { className: "note", textContent: "not in this run" }));
    return panel;
  }
  const verdict = verdictOf(found.score, found.status);
  const mark = element("span", { className: `verdict ${verdict}`, textContent: `${SIGNS[verdict]} ${verdict}` });
  const score = found.score === null ? "" : ` score ${found.score} `;
  panel.append(element("p", {}, mark, score, element("code", { className: "answer", textContent: found.answer })));
  if (!found.trace) {
    panel.append(element("p", { className: "note", textContent: "This run recorded no trace." }));
    return panel;
  }
  if (found.trace.failed) panel.append(element("p", { className: "warning", textContent: found.trace.failed }));
  else panel.append(transcript(record, found.trace), figures(found.trace));
  return panel;
}

function transcript(record, trace) {
  const list = element("ol", { className: "transcript" });
  const turn = (who, ...content) =>
    list.append(element("li", { className: who }, element("b", { textContent: who }), ...content));
  const text = (textContent) => element("pre", { textContent });
  turn("user", text(record.question));
  trace.turns.forEach((said, i) => {
    if (i > 0) turn("user", crops(record.view, trace.crops));
    const counts = `${said.new_tokens} tokens, ${said.seconds.toFixed(3)} s`;
    turn("assistant", text(said.text), element("small", { textContent: counts }));
  });
  return list;
}

function crops(view, shown) {
  const row = element("div", { className: "crops" });
  for (const crop of shown) {
    const label = `crop ${crop.id}`;
    const cut = view.missing ? [] : [part(view, scaled(view, view.boxes[crop.id]), label)];
    row.append(element("figure", {}, ...cut, element("figcaption", { textContent: `${label}, ${crop.tokens} tokens` })));
  }
  return row;
}

function figures(trace) {
  const call = trace.tool_call;
  const rows = {
    "tool call": call ? `${call.status}: ${call.ids.join(", ")}${call.forced ? " (made by a control policy)" : ""}` : "none",
    "visual tokens": `${trace.visual_tokens} of ${trace.full_tokens} (low-res ${trace.lowres_tokens})`,
    RTR: trace.rtr,
    "tokens prefilled": trace.visual_tokens_processed,
    "latency, s": `${trace.latency_s} in a batch of ${trace.batch_size}`,
    "preprocessing, s": trace.preprocess_s,
    "response length": `${trace.response_chars} characters${trace.truncated ? ", cut at the limit" : ""}`,
    "system prompt": trace.prompt,
  };
  const list = element("dl");
  for (const [name, value] of Object.entries(rows))
    list.append(element("dt", { textContent: name }), element("dd", { textContent: value }));
  return list;
}

// --- actions

const current = () => (awares.matches.length ? nameOf(awares.matches[awares.at]) : "");

function swapRuns() {
  if (form.other.value === "") return;
  [form.run.value, form.other.value] = [form.other.value, form.run.value];
  refresh(current());
}

function toggleDisagreements() {
  if (awares.index.runs.length < 2) return;
  form.disagree.value = form.disagree.value === "" ? "differ" : "";
  chooseOther();
  refresh(current());
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
  const typing = event.target.matches("select") && event.key !== "Escape";
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") event.target.blur();
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
form.addEventListener("change", () => {
  chooseOther();
  refresh(current());
});
form.addEventListener("reset", () => setTimeout(() => refresh(current())));
byId("overlay").addEventListener("change", (event) => setOverlay(event.target.checked));
byId("back").addEventListener("click", () => go(awares.at - 1));
byId("next").addEventListener("click", () => go(awares.at + 1));
byId("page-back").addEventListener("click", () => go((Math.floor(awares.at / LISTED) - 1) * LISTED));
byId("page-on").addEventListener("click", () => go((Math.floor(awares.at / LISTED) + 1) * LISTED));
window.addEventListener("hashchange", () => refresh(location.hash.slice(1)));
