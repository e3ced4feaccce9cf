// One document's pictures: the whole image with its boxes, the low-res view, the crops; each can be enlarged.
"use strict";

function drawing(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const size = ([width, height]) => `${width}×${height} px`;

// `above`: makes the boxes that are drawn on the whole image.
function pictures(view, above) {
  if (view.missing) return element("p", { className: "warning", textContent: `No picture: ${view.missing}.` });
  const reduced = view.scale < 1 ? `, stored at ${Math.round(100 * view.scale)} %` : "";
  const [width, height] = view.whole;
  const full = [0, 0, width, height];
  const whole = part(view, full, "the whole image", above());
  const low = part(view, view.lowres ? [0, view.lowres_top, ...view.lowres] : full, "the low-res view");
  const words = view.lowres
    ? `low-res view ${size(view.lowres_size)}${reduced}`
    : "the low-res view is the full view: nothing to save";
  const note = `image ${size(view.size)}, full view ${size(view.full_size)}${reduced}`;
  const both = element(
    "div",
    { className: "pictures" },
    element("figure", {}, whole, element("figcaption", { textContent: note })),
    element("figure", {}, low, element("figcaption", { textContent: words })),
  );
  const aspects = [view.whole, view.lowres ?? view.whole].map(([width, height]) => width / height);
  both.style.setProperty("--aspect", Math.min(...aspects)); // of the one that is higher at the same width
  return both;
}

// A part of the document's picture file, in a button that enlarges it. `box`: left, top, width, height in the file's
// pixels. The inner <svg> cuts off what else the file holds.
function part(view, box, label, ...above) {
  const [left, top, width, height] = box;
  const [across, down] = view.sheet;
  const cut = drawing("svg", { width, height, viewBox: box.join(" "), preserveAspectRatio: "none", overflow: "hidden" });
  cut.append(drawing("image", { href: view.file, width: across, height: down, preserveAspectRatio: "none" }));
  const shown = drawing("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, cut, ...above);
  const stored = [Math.round(width), Math.round(height)];
  const button = element("button", { type: "button", className: "view", title: "enlarge" }, shown);
  button.style.setProperty("--aspect", width / height);
  button.addEventListener("click", () => enlarge(shown, stored, label));
  return button;
}

const scaled = (view, [left, top, w, h]) => {
  const [width, height] = view.whole;
  return [left * width, top * height, w * width, h * height];
};

// --- boxes

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
  if (record.view.missing) return list;
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

function crops(view, shown) {
  const row = element("div", { className: "crops" });
  for (const crop of shown) {
    const label = `crop ${crop.id}`;
    const cut = view.missing ? [] : [part(view, scaled(view, view.boxes[crop.id]), label)];
    row.append(element("figure", {}, ...cut, element("figcaption", { textContent: `${label}, ${crop.tokens} tokens` })));
  }
  return row;
}

// --- enlarging

// Stored pixels one to one, or as many times larger as fit into the window: never a fraction, which would smooth them.
function enlarge(shown, [width, height], label) {
  const dialog = document.getElementById("enlarged");
  const fits = Math.min((0.94 * innerWidth) / width, (0.86 * innerHeight) / height);
  const factor = Math.max(1, Math.floor(fits));
  const copy = shown.cloneNode(true);
  copy.setAttribute("width", factor * width);
  copy.setAttribute("height", factor * height);
  copy.setAttribute("class", factor > 1 ? "pixels" : "");
  const words = `${label}, ${size([width, height])} as stored${factor > 1 ? `, ${factor} times larger` : ""}`;
  const close = element("button", { type: "button", textContent: "close (Esc)" });
  dialog.replaceChildren(element("p", {}, words, " ", close), element("div", { className: "scroll" }, copy));
  dialog.onclick = () => dialog.close();
  dialog.showModal();
}
