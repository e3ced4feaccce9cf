// What the explorer's pages show of a curated set: filters, the list's marks, one row with all that the stages added.
"use strict";

function buildRowFilters() {
  const all = (name, texts) =>
    form[name].append(
      element("option", { value: "", textContent: "any" }),
      ...texts.map((textContent, value) => element("option", { value, textContent })),
    );
  const { index } = awares;
  for (const [name, list] of Object.entries(kind.named)) all(name, index[list]);
  form.reason.parentElement.hidden = !index.reasons.length;
}

function matchingRows() {
  const chosen = Object.fromEntries(new FormData(form));
  // The fields of an entry, in the order of the index; a number that stands for nothing is null.
  return ([, ...fields]) => kind.filters.every((name, i) => chosen[name] === "" || fields[i] === Number(chosen[name]));
}

function rowMarks(position) {
  const [, , , label, state] = awares.index.documents[position];
  const aside = awares.index.states[state] === "set aside";
  const text = aside ? "set aside" : label === null ? "open" : awares.index.labels[label];
  return [element("span", { className: aside ? "wrong" : "note", textContent: text })];
}

// --- what a person looks at first: the question, both answers, what was made of them

const VERDICTS = ["both are equally good", "the low-res answer is better", "the full-res answer is better"];

function rowSummary(record) {
  const line = (name, mark, ...content) =>
    element("tr", {}, element("th", { textContent: name }), element("td", {}, mark), element("td", {}, ...content));
  const said = (text) => element("code", { className: "answer", textContent: text ?? "" });
  const label = element("span", { className: "verdict", textContent: record.label ?? "" });
  const table = element("table", { className: "answers" });
  if (record.answers.length)
    table.append(line("right answers", "", element("code", { className: "target", textContent: record.answers.join(" | ") })));
  if (record.lowres_answer !== null) {
    const same = record.lowres_answer === record.fullres_answer ? "the same text" : "";
    table.append(line("low-res view", "", said(record.lowres_answer)), line("full view", same, said(record.fullres_answer)));
  }
  if (record.label !== null) table.append(line("label", label, verdictWords(record)));
  if (record.targets?.length) table.append(line("target crops", "", `${record.targets.join(", ")} (rule: ${record.rule})`));
  const lines = [element("p", { className: "question", textContent: record.question }), table];
  if (record.rejected) {
    const { stage, reason, detail } = record.rejected;
    const words = `Set aside in ${stage}: ${reason}${detail ? `. ${detail}` : ""}`;
    lines.push(element("p", { className: "warning", textContent: words }));
  }
  return lines;
}

function verdictWords({ judge }) {
  if (!judge || judge.verdict === null) return "";
  const again = judge.swapped === null ? "" : `; with the answers exchanged: ${VERDICTS[judge.swapped] ?? judge.swapped}`;
  return `${VERDICTS[judge.verdict] ?? judge.verdict}${again}`;
}

// --- boxes

const BOXES = {
  oracle: (record) => record.view.targets.map((id) => [record.view.boxes[id], `target: ${id}`]),
  evidence: (record) => (record.view.evidence ? [[record.view.evidence, "the source's evidence"]] : []),
  asked: (record) => record.view.question.map((box) => [box, "what the question is about"]),
  found: (record) => record.view.answer.map((box) => [box, "where the answer is"]),
};

function rowBoxes(record) {
  const group = drawing("g", { class: "boxes" });
  for (const [name, of] of Object.entries(BOXES))
    for (const [box, title] of of(record)) {
      const [x, y, width, height] = scaled(record.view, box);
      group.append(drawing("rect", { x, y, width, height, class: name }, drawing("title", {}, title)));
    }
  return group;
}

function rowLegend(record) {
  const list = element("ul", { className: "legend" });
  if (record.view.missing) return list;
  for (const [name, of] of Object.entries(BOXES)) {
    const titles = new Set(of(record).map(([, title]) => title));
    for (const textContent of titles) list.append(element("li", { className: name, textContent }));
  }
  return list;
}

// --- the stages and the transcript

function panel(title, ...content) {
  return element("section", {}, element("h3", { textContent: title }), ...content);
}

function facts(rows) {
  const list = element("dl");
  for (const [name, value] of Object.entries(rows))
    if (value !== null && value !== undefined && value !== "")
      list.append(element("dt", { textContent: name }), element("dd", { textContent: value }));
  return list;
}

const modelWords = (model) =>
  model ? [model.name, model.revision, model.prompt && `prompt ${model.prompt}`].filter(Boolean).join(", ") : null;
const replies = (texts) => texts.map((textContent) => element("pre", { className: "reply", textContent }));
const corners = (boxes) => boxes.map((box) => `[${box.map(Math.round).join(", ")}]`).join(" ");

function rowDetails(record) {
  const { judge, boxes } = record;
  const panels = [];
  if (judge)
    panels.push(
      panel(
        "Judge",
        facts({
          verdict: verdictWords(record),
          scores: judge.scores?.join(", "),
          judge: modelWords(record.judge_model),
          answers: modelWords(record.base_model),
        }),
        ...replies(judge.replies ?? []),
      ),
    );
  if (boxes)
    panels.push(
      panel(
        "Grounding",
        facts({
          "question, 0–1000": corners(boxes.question),
          "answer, 0–1000": corners(boxes.answer),
          targets: record.targets.join(", "),
          rule: record.rule,
          oracle: modelWords(record.oracle_model),
        }),
        ...replies(record.grounding === null ? [] : [record.grounding]),
      ),
    );
  if (record.messages) panels.push(panel("Transcript", rowTranscript(record)));
  return panels;
}

// The first image is the low-res view, which stands above; those that follow are the crops, side by side.
function rowTranscript(record) {
  const list = element("ol", { className: "transcript" });
  let images = 0;
  for (const { role, parts } of record.messages) {
    const turn = element("li", { className: role }, element("b", { textContent: role }));
    const seen = [];
    for (const text of parts) {
      const crop = text === null ? record.view.seen?.[images++ - 1] : null;
      if (crop) seen.push(crop);
      else if (text !== null) turn.append(element("pre", { textContent: text }));
      else turn.append(element("span", { className: "shown", textContent: images > 1 ? "image" : "low-res view" }));
    }
    if (seen.length) turn.append(crops(record.view, seen));
    list.append(turn);
  }
  return list;
}

function drawRow(record, name) {
  const first = element(
    "div",
    { className: "first" },
    element("h2", { textContent: `${name} (${record.split})` }),
    ...rowSummary(record),
    rowLegend(record),
    pictures(record.view, () => rowBoxes(record)),
  );
  return [first, element("div", { className: "runs" }, ...rowDetails(record))];
}

const kind = {
  unit: "row",
  filters: ["source", "split", "label", "state", "reason"],
  named: { source: "sources", split: "splits", label: "labels", state: "states", reason: "reasons" },
  build: buildRowFilters,
  matcher: matchingRows,
  settle: () => {},
  name: (position) => awares.index.documents[position][0],
  marks: rowMarks,
  draw: drawRow,
  keys: {},
};
