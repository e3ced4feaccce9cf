// What the explorer's pages show of runs: filters, the list's marks, one document with every run's answer.
"use strict";

function buildRunFilters() {
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

function disagrees(how, mine, others) {
  if (!mine || !others || right(mine) === null || right(others) === null || right(mine) === right(others)) return false;
  return how === "differ" || right(mine) === (how === "worse");
}

function matchingRuns() {
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

const nameOf = (position) => {
  const [task, doc] = awares.index.documents[position];
  return `${awares.index.tasks[task]}/${doc}`;
};

function marks(position, run) {
  const answer = run === "" ? null : awares.index.documents[position][2 + Number(run)];
  if (!answer) return element("span");
  const status = awares.index.statuses[answer[1]];
  const verdict = verdictOf(answer[0], status);
  const call = ["valid", "recovered"].includes(status) ? " crop" : status === "invalid" ? " crop?" : "";
  return element("span", { className: verdict, title: verdict, textContent: SIGNS[verdict] + call });
}

function drawSample(record, name) {
  const runs = [form.run.value, form.other.value].filter((run, i, all) => run !== "" && all.indexOf(run) === i);
  const first = element(
    "div",
    { className: "first" },
    element("h2", { textContent: name }),
    ...summary(record, runs),
    legend(record, runs),
    pictures(record.view, () => boxes(record, runs)),
  );
  const panels = element("div", { className: "runs" }, ...runs.map((run) => details(record, run)));
  return [first, panels, ...keptByEveryRun(record)];
}

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

const kind = {
  unit: "sample",
  filters: ["task", "run", "other", "call", "result", "status", "disagree"],
  named: { task: "tasks", run: "runs", other: "runs", status: "statuses" },
  build: buildRunFilters,
  matcher: matchingRuns,
  settle: chooseOther,
  name: nameOf,
  marks: (position) => [form.run.value, form.other.value].map((run) => marks(position, run)),
  draw: drawSample,
  keys: { r: swapRuns, d: toggleDisagreements },
};
