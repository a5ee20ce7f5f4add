// How far the classes lie apart, pair by pair, as one layer's units see them.

const APART = "#7fd0c0";
const ALIKE = "#ffc15e";
const OPPOSITE = "#4f7bff";
const EMPTY_CELL = "#171c23";
const PAIR_MEASURES = {
  cosine: {
    label: "likeness",
    text: "cosine of the two classes' mean images, in standardised units",
    value: (part) => 2 * part - 1,
    format: (value) => signed(value),
    colour: (value) => [value < 0 ? OPPOSITE : ALIKE, Math.sqrt(Math.abs(value))],
    ends: [-1, 1],
  },
  auroc: {
    label: "told apart (AUROC)",
    text: "AUROC of the unit that tells the two apart best",
    value: (part) => part,
    format: (value) => fixed(value, 3),
    colour: (value) => [APART, Math.max(0, 2 * value - 1) ** 4],
    ends: [0.5, 1],
  },
};
const pairs = raw.pairs;
const pairState = { place: pairs?.chosen ?? 0, measure: "cosine", order: "likeness" };
let pairGrid = null;

// Place of the pair (a, b) among (0, 1), (0, 2), ... (1, 2), ...
function pairPlace(a, b, count) {
  const [first, second] = a < b ? [a, b] : [b, a];
  return first * count - (first * (first + 1)) / 2 + second - first - 1;
}

function pairValue(layer, measure, a, b) {
  return PAIR_MEASURES[measure].value(share(layer[measure], pairPlace(a, b, pairs.classes.length)));
}

function drawPairs() {
  if (!pairs) return;
  const layer = pairs.layers[pairState.place];
  byId("pairs-words").replaceChildren(...pairWords(layer));
  const holder = byId("pairs-matrix");
  byId("pairs-key").hidden = !layer.cosine;
  if (!layer.cosine) {
    pairGrid = null;
    const drawn = pairs.layers.filter((each) => each.cosine).map((each) => each.layer);
    const why = layer.pairs ? `To stay small, this page holds the matrix of ${drawn.length} layers only: ${drawn.join(", ")}.` : "No pair of classes has a value in this layer: none of its units varies.";
    holder.replaceChildren(el("p", { class: "notice" }, why));
    return;
  }
  drawMatrix(holder, layer);
  writePairKey();
}

function drawMatrix(holder, layer) {
  const count = pairs.classes.length;
  const order = pairState.order === "likeness" ? layer.order : pairs.classes.map((_, i) => i);
  const names = order.map((i) => shortened(classes[pairs.classes[i]], 14));
  const room = Math.max(260, holder.clientWidth);
  const left = Math.ceil(12 + Math.max(...names.map((name) => name.length)) * 6.6);
  const size = Math.max(4, Math.min(60, Math.floor((Math.min(room, 680) - left) / count)));
  const flat = Math.max(...names.map((name) => name.length)) * 6.6 < size;
  const top = flat ? 20 : left;
  const canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": pairsLabel(layer) });
  const cursor = el("div", { class: "cursor", hidden: true });
  const context = fitCanvas(canvas, left + count * size, top + count * size);
  pairGrid = { layer, order, left, top, size, count, canvas, cursor, at: -1 };
  drawPairNames(context, names, flat);
  drawPairCells(context);
  canvas.addEventListener("pointermove", (event) => pointAtPair(pairUnder(event), event.clientX, event.clientY));
  canvas.addEventListener("pointerleave", () => pointAtPair(-1));
  canvas.addEventListener("blur", () => pointAtPair(-1));
  canvas.addEventListener("keydown", movePairCursor);
  holder.replaceChildren(el("div", { class: "grid" }, canvas, cursor));
}

function drawPairNames(context, names, flat) {
  const { left, top, size, order } = pairGrid;
  const every = Math.ceil(11 / size);
  context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  context.fillStyle = "#a2aebd";
  context.textBaseline = "middle";
  order.forEach((_, i) => {
    if (i % every) return;
    context.textAlign = "right";
    context.fillText(names[i], left - 7, top + (i + 0.5) * size);
    context.save();
    context.translate(left + (i + 0.5) * size, top - 7);
    context.textAlign = flat ? "center" : "left";
    if (!flat) context.rotate(-Math.PI / 2);
    context.fillText(names[i], 0, flat ? -3 : 0);
    context.restore();
  });
}

function drawPairCells(context) {
  const { layer, order, left, top, size } = pairGrid;
  const { format, colour } = PAIR_MEASURES[pairState.measure];
  const side = size > 7 ? size - 1 : size;
  context.font = `${size > 40 ? 12 : 11}px ${getComputedStyle(document.body).fontFamily}`;
  context.textAlign = "center";
  order.forEach((a, row) => order.forEach((b, column) => {
    const [x, y] = [left + column * size, top + row * size];
    const value = a === b ? NaN : pairValue(layer, pairState.measure, a, b);
    const [front, level] = Number.isFinite(value) ? colour(value) : [SILENT, a === b ? 0 : 0.5];
    context.fillStyle = mixed(front, EMPTY_CELL, level);
    context.fillRect(x, y, side, side);
    if (size < 40 || !Number.isFinite(value)) return;
    context.fillStyle = level > 0.55 && front !== OPPOSITE ? "#0b0e12" : "#e9edf3";
    context.fillText(format(value), x + side / 2, y + side / 2 + 0.5);
  }));
}

function pairUnder(event) {
  const { canvas, left, top, size, count } = pairGrid;
  const rectangle = canvas.getBoundingClientRect();
  const column = Math.floor((event.clientX - rectangle.left - left) / size);
  const row = Math.floor((event.clientY - rectangle.top - top) / size);
  return column < 0 || row < 0 || column >= count || row >= count ? -1 : row * count + column;
}

function pointAtPair(at, x, y) {
  const { layer, order, left, top, size, count, cursor } = pairGrid;
  pairGrid.at = at;
  const [row, column] = [Math.floor(at / count), at % count];
  cursor.hidden = at < 0 || row === column;
  if (cursor.hidden) {
    hideTip();
    return;
  }
  cursor.style.width = cursor.style.height = `${size + 1}px`;
  cursor.style.transform = `translate(${left + column * size - 2}px, ${top + row * size - 2}px)`;
  const [a, b] = [order[row], order[column]];
  showTip([
    el("p", {}, ...pairNames([pairs.classes[a], pairs.classes[b]])),
    el("dl", {}, ...Object.entries(PAIR_MEASURES).flatMap(([measure, { label, format }]) => [el("dt", {}, label), el("dd", {}, format(pairValue(layer, measure, a, b)))])),
  ], x, y);
}

function movePairCursor(event) {
  const { canvas, left, top, size, count, at } = pairGrid;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: count, ArrowUp: -count }[event.key];
  if (!step) return;
  event.preventDefault();
  let next = at < 0 ? 1 : at + step;
  // Nothing lies on the diagonal.
  if (at >= 0 && Math.floor(next / count) === next % count) next += step;
  if (next < 0 || next >= count * count) return;
  const rectangle = canvas.getBoundingClientRect();
  pointAtPair(next, rectangle.left + left + ((next % count) + 1) * size, rectangle.top + top + Math.floor(next / count) * size);
}

function pairNames([a, b]) {
  return [swatch(a), shortened(className(a), 22), el("span", { class: "quiet" }, " and "), swatch(b), shortened(className(b), 22)];
}

function pairItem({ classes: both, cosine, auroc, unit }) {
  const numbers = [cosine === null ? "" : `cosine ${signed(cosine)}`, auroc === null ? "" : `AUROC ${fixed(auroc, 3)}`].filter(Boolean).join(", ");
  const by = unit < 0 ? [] : [" by ", unitLink(unit)];
  return el("li", {}, ...pairNames(both), el("span", { class: "quiet" }, ` ${numbers}`, ...by));
}

function unitLink(unit) {
  const { name } = unitFacts(main, unit);
  return el("button", { type: "button", class: "link", title: name, onclick: () => openUnit(main, unit) }, el("code", {}, unitLabel(name, 26)));
}

function pairWords(layer) {
  if (!layer.pairs) return [];
  const [hardest] = layer.hardest;
  const share = `${layer.told === layer.pairs ? "All" : `${counted(layer.told)} of`} ${counted(layer.pairs)} ${pairs.complete ? "pairs" : "pairs of near classes"} are`;
  const one = `The one pair is ${layer.told ? "" : "not "}`;
  const sum = `${layer.pairs === 1 ? one.trim() : share} told apart by at least one unit (q ≤ ${percent(main.figures.fdr)}).`;
  const hard = hardest && hardest.auroc !== null ? [" The hardest are ", ...pairNames(hardest.classes), `: the best unit${hardest.unit < 0 ? "" : ", "}`, hardest.unit < 0 ? "" : unitLink(hardest.unit), `, has an AUROC of ${fixed(hardest.auroc, 3)}.`] : [];
  const list = (title, items) => (items.length ? [el("h3", {}, title), el("ol", { class: "pairs" }, ...items.map(pairItem))] : []);
  return [
    el("h3", {}, el("code", {}, ...wrappingName(layer.layer))),
    el("p", {}, sum, ...hard),
    ...list("Nearest pairs", layer.nearest),
    ...list("Farthest pairs", layer.farthest),
    el("p", { class: "quiet" }, pairs.complete ? "By the cosine of the classes' mean images: 1 the same direction, −1 opposite ones." : `Of ${counted(pairs.classes.length)} classes each is compared with its nearest only, so that the farthest are not known.`),
  ];
}

function pairsLabel(layer) {
  const say = ({ classes: [a, b], cosine }) => `${className(a)} and ${className(b)}${cosine === null ? "" : ` ${signed(cosine)}`}`;
  return `Matrix of ${pairs.classes.length} classes in layer ${layer.layer}: ${PAIR_MEASURES[pairState.measure].text}. Nearest: ${layer.nearest.map(say).join(", ")}. Farthest: ${layer.farthest.map(say).join(", ")}. Move with the arrow keys.`;
}

function writePairKey() {
  const { text, ends, colour } = PAIR_MEASURES[pairState.measure];
  const [low, high] = ends;
  const stops = Array.from({ length: 17 }, (_, i) => {
    const [front, level] = colour(low + ((high - low) * i) / 16);
    return mixed(front, EMPTY_CELL, level);
  });
  const ramp = el("i", { style: { background: `linear-gradient(90deg, ${stops.join(", ")})` } });
  byId("pairs-key").replaceChildren(el("span", {}, text), el("span", { class: "ramp" }, signedEnd(low), ramp, signedEnd(high)));
}

function signedEnd(value) {
  return String(value).replace("-", "−");
}

function startPairs() {
  if (!pairs) {
    byId("pairs-body").replaceChildren(el("p", { class: "notice" }, "No classes are compared: the test set has no labels, or a single class."));
    return;
  }
  pairs.layers = pairs.layers.map(unpackAll);
  const redraw = (name) => (value) => {
    pairState[name] = name === "place" ? Number(value) : value;
    drawPairs();
  };
  const options = pairs.layers.map(({ layer }, place) => [String(place), layer]);
  const hasMatrix = pairs.layers.some((layer) => layer.cosine);
  byId("pairs-controls").append(
    selection("layer", options, String(pairState.place), redraw("place")),
    hasMatrix ? segmented("show", Object.entries(PAIR_MEASURES).map(([name, { label }]) => [name, label]), pairState.measure, redraw("measure")) : "",
    hasMatrix ? segmented("order", [["likeness", "like ones together"], ["class", "class"]], pairState.order, redraw("order")) : "",
  );
  byId("pairs-card").hidden = !hasMatrix;
  drawPairs();
}
