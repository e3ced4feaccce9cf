// Shows one document: pictures with boxes, and what each run answered. Texts of models are only ever set as text, never
// as markup.
"use strict";

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

const SIGNS = { right: "✓", wrong: "✗", failed: "!", unscored: "·" };

function verdictOf(score, status) {
  if (status === "failed") return "failed";
  return score === null ? "unscored" : score >= awares.index.right ? "right" : "wrong";
}

// --- pictures

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
  if (found.other) {
    const what = `Another document than the first run's: ${found.other}; its target: ${found.target}`;
    panel.append(element("p", { className: "warning", textContent: what }));
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
  else panel.append(transcript(record, found), figures(found.trace));
  return panel;
}

function transcript(record, { question, trace }) {
  const list = element("ol", { className: "transcript" });
  const turn = (who, ...content) =>
    list.append(element("li", { className: who }, element("b", { textContent: who }), ...content));
  const text = (textContent) => element("pre", { textContent });
  turn("user", text(question ?? record.question));
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
