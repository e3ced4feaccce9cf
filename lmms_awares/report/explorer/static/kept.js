// Which visual tokens a pruner kept, drawn over the views: what it dropped lies under a veil.
"use strict";

// One flag for each encoded token, as lmms_awares/tokens.py writes them.
function flagsOf(bits, count) {
  const held = atob(bits);
  return Array.from({ length: count }, (_, i) => ((held.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1) === 1);
}

const total = (flags) => flags.filter(Boolean).length;

// [name, box in the picture file] of each view that a run was shown, in order.
function viewsOf(view, trace) {
  const full = [0, 0, ...view.whole];
  const low = view.lowres ? [0, view.lowres_top, ...view.lowres] : full;
  const first = trace.view === "full" ? ["full view", full] : ["low-res view", low];
  return [first, ...trace.crops.map((crop) => [`crop ${crop.id}`, scaled(view, view.boxes[crop.id])])];
}

// A path over the dropped tokens, and one along the border between kept and dropped; a token is one unit wide and high.
function veil(flags, [columns, rows], [width, height]) {
  const dropped = (row, column) => row >= 0 && column >= 0 && row < rows && column < columns && !flags[row * columns + column];
  let covered = "";
  let border = "";
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!dropped(row, column)) continue;
      let end = column;
      while (dropped(row, end + 1)) end++;
      covered += `M${column} ${row}h${end + 1 - column}v1h${column - end - 1}z`;
      column = end;
    }
  }
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const here = dropped(row, column);
      if (column + 1 < columns && here !== dropped(row, column + 1)) border += `M${column + 1} ${row}v1`;
      if (row + 1 < rows && here !== dropped(row + 1, column)) border += `M${column} ${row + 1}h1`;
    }
  }
  const scale = { transform: `scale(${width / columns} ${height / rows})`, class: "boxes" };
  const group = drawing("g", scale, drawing("path", { d: covered, class: "dropped" }));
  group.append(drawing("path", { d: border, class: "border" }));
  return group;
}

// Layers count from 0, as in the trace.
const placeOf = ({ layer }, depth) =>
  layer === null ? "in front of the language model" : `behind layer ${layer} of 0-${depth - 1}`;

// The views of a run with what each place left of them. `limit`: how many views.
function keptViews(view, trace, limit = Infinity) {
  const { grids, kept, kv_lengths, encoded_tokens } = trace.pruning;
  const places = kept.map((place) => ({
    name: placeOf(place, kv_lengths.length),
    flags: flagsOf(place.bits, encoded_tokens),
  }));
  const list = element("div", { className: "kept" });
  let start = 0;
  viewsOf(view, trace).slice(0, Math.min(limit, grids.length)).forEach(([name, box], i) => {
    const [columns, rows] = grids[i];
    const from = start;
    start += columns * rows;
    for (const place of places) {
      const flags = place.flags.slice(from, start);
      const words = `${name}, ${place.name}: ${total(flags)} of ${flags.length} tokens`;
      const shown = part(view, box, `kept tokens: ${words}`, veil(flags, grids[i], box.slice(2)));
      list.append(element("figure", {}, shown, element("figcaption", { textContent: words })));
    }
  });
  return list;
}

// Why a run's kept tokens cannot be drawn; empty where they can.
function whyNotDrawn(view, trace) {
  if (!trace.pruning.kept.length) return "This trace does not say which tokens were kept: it is older than schema 5.";
  if (view.missing) return "No picture to draw the kept tokens on.";
  return trace.images > 1 ? "Kept tokens are drawn for samples of one image." : "";
}

// What a run kept: its counts, and its views; nothing for a run without a pruner.
function keptTokens(view, trace, limit) {
  if (!trace?.pruning) return [];
  const why = whyNotDrawn(view, trace);
  if (why) return [element("p", { className: "note", textContent: why })];
  const { pruner, retain_ratio, encoded_tokens, entering_tokens, final_tokens, kept } = trace.pruning;
  const doubled = final_tokens - total(flagsOf(kept.at(-1).bits, encoded_tokens));
  const inside = entering_tokens === final_tokens ? "" : `, ${final_tokens} leave the last layer`;
  const same = doubled ? `; ${doubled} of them stand where another one stands` : "";
  const counts = `${pruner} at ${retain_ratio}: ${entering_tokens} of ${encoded_tokens} tokens enter${inside}${same}`;
  return [element("p", { className: "note counts", textContent: counts }), keptViews(view, trace, limit)];
}

let everyRunOpen = false; // also for the next sample

// The first view of every run that prunes; made when it is opened.
function keptByEveryRun(record) {
  const pruned = record.runs.flatMap((found, run) => (found?.trace?.pruning ? [[run, found.trace]] : []));
  if (!pruned.length) return [];
  const heading = element("summary", { textContent: `Kept tokens of every run that prunes (${pruned.length})` });
  const panel = element("details", { className: "every" }, heading);
  const fill = () => {
    everyRunOpen = panel.open;
    if (!panel.open || panel.children.length > 1) return;
    const sections = pruned.map(([run, trace]) => {
      const name = element("h3", { textContent: awares.index.runs[run] });
      return element("section", {}, name, ...keptTokens(record.view, trace, 1));
    });
    panel.append(element("div", {}, ...sections));
  };
  panel.addEventListener("toggle", fill);
  panel.open = everyRunOpen;
  return [panel];
}
