// Shows one document: what each run answered, and both turns of it. Texts of models are only ever set as text, never
// as markup.
"use strict";

const SIGNS = { right: "✓", wrong: "✗", failed: "!", unscored: "·" };

function verdictOf(score, status) {
  if (status === "failed") return "failed";
  return score === null ? "unscored" : score >= awares.index.right ? "right" : "wrong";
}

// --- what a person looks at first: the question, and how each run answered it

function summary(record, runs) {
  const target = element("code", { className: "target", textContent: record.target });
  return [
    element("p", { className: "question", textContent: record.question }),
    element(
      "table",
      { className: "answers" },
      element("tr", {}, element("th", { textContent: "expected" }), element("td", {}), element("td", {}, target)),
      ...runs.map((run) => answerRow(record.runs[run], awares.index.runs[run])),
    ),
  ];
}

function answerRow(found, name) {
  const heading = element("th", { textContent: name });
  if (!found) return element("tr", {}, heading, element("td", {}), element("td", { textContent: "not in this run" }));
  const verdict = verdictOf(found.score, found.status);
  const partly = found.score > 0 && found.score < 1 ? ` ${found.score}` : "";
  const mark = element("span", { className: `verdict ${verdict}`, textContent: `${SIGNS[verdict]} ${verdict}${partly}` });
  const given = element("code", { className: "answer", textContent: found.answer });
  return element("tr", {}, heading, element("td", {}, mark), element("td", {}, given), costs(found.trace));
}

function costs(trace) {
  const known = trace && !trace.failed;
  const call = trace?.tool_call;
  const asked = call ? [`call ${call.status}`, ...(call.ids.length ? [call.ids.join(", ")] : [])].join(": ") : "no call";
  const words = known ? `RTR ${trace.rtr}, ${asked}, ${trace.latency_s} s` : "";
  return element("td", { className: "note", textContent: words });
}

// --- the details of one run

function details(record, run) {
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
  if (!found.trace) {
    panel.append(element("p", { className: "note", textContent: "This run recorded no trace." }));
    return panel;
  }
  if (found.trace.failed) panel.append(element("p", { className: "warning", textContent: found.trace.failed }));
  else panel.append(transcript(record, found), ...keptTokens(record.view, found.trace), figures(found.trace));
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

function figures(trace) {
  const call = trace.tool_call;
  const rows = {
    "tool call": call ? `${call.status}: ${call.ids.join(", ")}${call.forced ? " (made by a control policy)" : ""}` : "none",
    ...(call?.note ? { "about the call": call.note } : {}),
    ...(trace.crop_content !== "true" && { "crops shown": `${trace.crop_content}, a control; not what is drawn here` }),
    "visual tokens": `${trace.visual_tokens} of ${trace.full_tokens} (low-res ${trace.lowres_tokens})`,
    RTR: trace.rtr,
    "tokens prefilled": trace.visual_tokens_processed ?? "unknown",
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
